"""Whether a folder's job is its own, belongs to the original of a copy, or has an older input."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from leruli.cancellation import CheckCancelled
from leruli.errors import CopiedFolderError, EditedFolderError, RefusedError
from leruli.folder.job_folder import JobFolder
from leruli.folder.local_files import known_state
from leruli.folder.record import Place, Record, read_record

# The most files that a sentence names.
_MOST_NAMES = 3

#: Words of `task-status --batch` for a copied folder and for one with edited input.
COPY = "copy"
EDITED = "edited"


@dataclass(frozen=True)
class Provenance:
    """To which folder and to which input the job of a folder belongs, by its record."""

    #: None without a record of the job: the published client writes none.
    record: Record | None = None
    #: The folder that the job belongs to, if this folder is a copy of it.
    original: str | None = None
    #: Inputs whose content is neither the submitted one nor a result of the job.
    edited: tuple[str, ...] = ()
    #: Other folders with the same job, if it is unknown which of them is the original.
    twins: tuple[str, ...] = ()

    @property
    def is_copy(self) -> bool:
        """Whether the job belongs, or may belong, to another folder."""
        return self.original is not None or bool(self.twins)

    @property
    def is_sound(self) -> bool:
        """Whether the job belongs to this folder and its input is unchanged."""
        return not self.is_copy and not self.edited

    def check_own(self, directory: str) -> None:
        """Raise CopiedFolderError if the job belongs to another folder."""
        if self.is_copy:
            raise CopiedFolderError(self.sentence(directory))

    def check_sound(self, directory: str) -> None:
        """Raise CopiedFolderError or EditedFolderError if the folder is not sound."""
        self.check_own(directory)
        if self.edited:
            raise EditedFolderError(self.sentence(directory))

    @property
    def word(self) -> str:
        """One word for a table, for a folder that is not sound."""
        return COPY if self.is_copy else EDITED

    @property
    def reason(self) -> str:
        """A few words for a table, for a folder that is not sound."""
        if self.original is not None:
            return f"of {shown(self.original)}"
        if self.twins:
            return f"the same job is in {named([shown(one) for one in self.twins])}"
        return f"{named(self.edited)} changed"

    def sentence(self, directory: str) -> str:
        """Return what is wrong and what to do, for a folder that is not sound."""
        name = "This folder" if directory == os.curdir else directory
        if self.original is not None:
            return (
                f"{name} holds the job of {shown(self.original)}, as a copied folder does. To "
                "submit it as a job of its own, add --new to `leruli task-submit`. For the results "
                "of that job go to its folder."
            )
        if self.twins:
            return (
                f"{name} holds the same job as {named([shown(one) for one in self.twins])}, as "
                "copied folders do, and nothing tells which of them was submitted. In each copy "
                "run `leruli task-submit --new`, which gives it a job of its own."
            )
        return (
            f"{named(self.edited)} changed after the job of "
            f"{'this folder' if directory == os.curdir else name} was submitted, so its results "
            "are those of another input. To calculate the new input, run `leruli task-resubmit`, "
            "or add --new to `leruli task-submit`. To go back, restore what was submitted: "
            "`leruli task-get --with-input` puts it beside."
        )


def provenance_of(directory: str, check_cancelled: CheckCancelled = lambda: None) -> Provenance:
    """Compare a folder with its record. Changes nothing.

    `check_cancelled` is called while files are read. Raises RefusedError for files that cannot be
    read.
    """
    folder = JobFolder(directory)
    if not folder.has_traces():
        return Provenance()
    record = read_record(directory)
    if record is None:
        return Provenance()
    bucket = folder.bucket()
    # Another program has submitted the folder after that. A purge deletes leruli.bucket.
    if bucket is not None and bucket != record.bucket:
        return Provenance()
    try:
        if not record.place.is_same(Place.of(directory)) and _is_at(record, folder):
            return Provenance(record, original=record.place.path)
        return Provenance(record, edited=tuple(_edited(directory, record, check_cancelled)))
    except OSError as error:
        raise RefusedError(
            f"Cannot read {error.filename or directory}: {error.strerror}."
        ) from error


def provenances_of(
    directories: Iterable[str], check_cancelled: CheckCancelled = lambda: None
) -> dict[str, Provenance | RefusedError]:
    """Compare folders with their records and with each other.

    For a folder that cannot be read the value is the error. Of several folders with one job at most
    one is sound: the folder that the record names. So copies without a record are found too, which
    the published client leaves.
    """
    provenances: dict[str, Provenance | RefusedError] = {}
    holders: dict[str, list[str]] = {}
    for directory in dict.fromkeys(directories):
        try:
            provenances[directory] = provenance_of(directory, check_cancelled)
            folder = JobFolder(directory)
            if folder.has_traces():
                held = folder.job() or folder.bucket()
                if held is not None:
                    holders.setdefault(held, []).append(directory)
        except RefusedError as error:
            provenances[directory] = error
    for several in holders.values():
        if len(several) > 1:
            _compare(several, provenances)
    return provenances


def _compare(several: list[str], provenances: dict[str, Provenance | RefusedError]) -> None:
    """Find the copies among folders that hold the same job."""
    undecided: dict[str, Provenance] = {}
    for name in several:
        found = provenances[name]
        if isinstance(found, Provenance) and not found.is_copy:
            undecided[name] = found
    ranks = {name: _certainty(name, found) for name, found in undecided.items()}
    best = [name for name in undecided if ranks[name] == max(ranks.values())]
    is_known = len(best) == 1 and (ranks[best[0]] > 0 or len(undecided) == 1)
    for name, found in undecided.items():
        if not is_known:
            others = tuple(os.path.realpath(one) for one in several if one != name)
            provenances[name] = replace(found, twins=others)
        elif name != best[0]:
            provenances[name] = replace(found, original=os.path.realpath(best[0]))


def _certainty(directory: str, provenance: Provenance) -> int:
    """Rate how sure it is that the job is the folder's: a move keeps the inode, a copy does not."""
    if provenance.record is None:
        return 0
    there, here = provenance.record.place, Place.of(directory)
    return 2 * ((there.device, there.inode) == (here.device, here.inode)) + (
        there.path == here.path
    )


def shown(path: str) -> str:
    """Return how sentences name an absolute path: relative to here if that is shorter."""
    relative = os.path.relpath(path)
    return relative if len(relative) < len(path) else path


def named(names: tuple[str, ...] | list[str]) -> str:
    """Return the first few of the names, and how many more there are."""
    shown = ", ".join(names[:_MOST_NAMES])
    more = len(names) - _MOST_NAMES
    return f"{shown} and {more} more" if more > 0 else shown


def _is_at(record: Record, folder: JobFolder) -> bool:
    """Whether the folder that the record names still has the job. If not, it was moved here."""
    there = JobFolder(record.place.path)
    try:
        job = there.job()
        return (job is not None and job == folder.job()) or there.bucket() == record.bucket
    except RefusedError:
        # The unreadable file may name this job.
        return there.has_traces()


def _edited(directory: str, record: Record, check_cancelled: CheckCancelled) -> list[str]:
    # A deleted input is not an edited one. People delete large files to save space.
    return [
        name
        for name in record.inputs
        if os.path.lexists(Path(directory, *name.split("/")))
        and known_state(record, directory, name, check_cancelled) is None
    ]
