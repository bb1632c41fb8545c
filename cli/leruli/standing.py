"""How a folder stands to the job that it holds: its own, a copy's, or of an input edited since."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from leruli.errors import CopiedFolderError, EditedFolderError, RefusedError
from leruli.jobfolder import JobFolder
from leruli.local_files import known_state
from leruli.record import Place, Record, read_record

# Names of edited files that a sentence gives.
_MOST_NAMES = 3

#: Words of `task-status --batch` for folders whose job is not that of the folder as it is.
COPY = "copy"
EDITED = "edited"


@dataclass(frozen=True)
class Standing:
    """What the record of a folder tells of its job."""

    #: None when the folder has no record of the job, as after the published client.
    record: Record | None = None
    #: The folder that the job belongs to, if this one is a copy of it.
    original: str | None = None
    #: Inputs whose content is neither what was submitted nor what the job made of it.
    edited: tuple[str, ...] = ()
    #: Other folders that hold the same job, when nothing tells which of them it belongs to.
    twins: tuple[str, ...] = ()

    @property
    def is_copy(self) -> bool:
        """Whether the job is, or may be, another folder's."""
        return self.original is not None or bool(self.twins)

    @property
    def is_sound(self) -> bool:
        """Whether nothing speaks against the job being that of the folder as it is."""
        return not self.is_copy and not self.edited

    def check_own(self, directory: str) -> None:
        """Raise CopiedFolderError if the job is another folder's."""
        if self.is_copy:
            raise CopiedFolderError(self.sentence(directory))

    def check_sound(self, directory: str) -> None:
        """Raise CopiedFolderError or EditedFolderError if the folder is not sound."""
        self.check_own(directory)
        if self.edited:
            raise EditedFolderError(self.sentence(directory))

    @property
    def word(self) -> str:
        """One word for a table, of a folder that is not sound."""
        return COPY if self.is_copy else EDITED

    @property
    def reason(self) -> str:
        """A few words for a table, of a folder that is not sound."""
        if self.original is not None:
            return f"of {shown(self.original)}"
        if self.twins:
            return f"the same job is in {named([shown(one) for one in self.twins])}"
        return f"{named(self.edited)} changed"

    def sentence(self, directory: str) -> str:
        """Say what is the matter and how to go on; of a folder that is not sound."""
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
            "are those of another input. To calculate the new input, add --new to "
            "`leruli task-submit`. To go back, restore what was submitted: "
            "`leruli task-get --with-input` puts it beside."
        )


def standing_of(directory: str, advance: Callable[[int], None] = lambda _: None) -> Standing:
    """Compare a folder with its record; nothing is changed.

    `advance` is called with 0 while files are read. Raises RefusedError for files that cannot be
    read.
    """
    folder = JobFolder(directory)
    if not folder.has_traces():
        return Standing()
    record = read_record(directory)
    if record is None:
        return Standing()
    bucket = folder.bucket()
    # Another program submitted the folder since. After a purge there is no leruli.bucket.
    if bucket is not None and bucket != record.bucket:
        return Standing()
    try:
        if not record.place.is_same(Place.of(directory)) and _is_at(record, folder):
            return Standing(record, original=record.place.path)
        return Standing(record, edited=tuple(_edited(directory, record, advance)))
    except OSError as error:
        raise RefusedError(
            f"Cannot read {error.filename or directory}: {error.strerror}."
        ) from error


def standings_of(
    directories: Iterable[str], advance: Callable[[int], None] = lambda _: None
) -> dict[str, Standing | RefusedError]:
    """Compare folders with their records, and with each other; or say why one cannot be read.

    Of several folders with one job at most one is sound: the one that its record names. So copies
    are told that have no record, as after the published client.
    """
    standings: dict[str, Standing | RefusedError] = {}
    holders: dict[str, list[str]] = {}
    for directory in dict.fromkeys(directories):
        try:
            standings[directory] = standing_of(directory, advance)
            folder = JobFolder(directory)
            if folder.has_traces():
                held = folder.job() or folder.bucket()
                if held is not None:
                    holders.setdefault(held, []).append(directory)
        except RefusedError as error:
            standings[directory] = error
    for several in holders.values():
        if len(several) > 1:
            _compare(several, standings)
    return standings


def _compare(several: list[str], standings: dict[str, Standing | RefusedError]) -> None:
    """Tell the copies among folders that hold one job."""
    undecided: dict[str, Standing] = {}
    for name in several:
        found = standings[name]
        if isinstance(found, Standing) and not found.is_copy:
            undecided[name] = found
    ranks = {name: _certainty(name, found) for name, found in undecided.items()}
    best = [name for name in undecided if ranks[name] == max(ranks.values())]
    is_known = len(best) == 1 and (ranks[best[0]] > 0 or len(undecided) == 1)
    for name, found in undecided.items():
        if not is_known:
            others = tuple(os.path.realpath(one) for one in several if one != name)
            standings[name] = replace(found, twins=others)
        elif name != best[0]:
            standings[name] = replace(found, original=os.path.realpath(best[0]))


def _certainty(directory: str, standing: Standing) -> int:
    """How sure it is that the job is the folder's: a move keeps the number, a copy does not."""
    if standing.record is None:
        return 0
    there, here = standing.record.place, Place.of(directory)
    return 2 * ((there.device, there.inode) == (here.device, here.inode)) + (
        there.path == here.path
    )


def shown(path: str) -> str:
    """Return how a sentence names an absolute path: from here, if that is shorter."""
    relative = os.path.relpath(path)
    return relative if len(relative) < len(path) else path


def named(names: tuple[str, ...] | list[str]) -> str:
    """Return the first few of the names, and how many more there are."""
    shown = ", ".join(names[:_MOST_NAMES])
    more = len(names) - _MOST_NAMES
    return f"{shown} and {more} more" if more > 0 else shown


def _is_at(record: Record, folder: JobFolder) -> bool:
    """Whether the folder of the record still holds the job; if not, this one was moved."""
    there = JobFolder(record.place.path)
    try:
        job = there.job()
        return (job is not None and job == folder.job()) or there.bucket() == record.bucket
    except RefusedError:
        # It cannot be read, so it cannot be ruled out either.
        return there.has_traces()


def _edited(directory: str, record: Record, advance: Callable[[int], None]) -> list[str]:
    # A file that was deleted, perhaps to save space, misleads nobody.
    return [
        name
        for name in record.inputs
        if os.path.lexists(Path(directory, *name.split("/")))
        and known_state(record, directory, name, advance) is None
    ]
