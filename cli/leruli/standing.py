"""How a folder stands to the job that it holds: its own, a copy's, or of an input edited since."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from leruli.errors import RefusedError
from leruli.jobfolder import JobFolder
from leruli.record import Place, Record, read_record

# Names of edited files that a sentence gives.
_MOST_NAMES = 3


@dataclass(frozen=True)
class Standing:
    """What the record of a folder tells of its job."""

    #: None when the folder has no record of the job, as after the published client.
    record: Record | None = None
    #: The folder that the job belongs to, if this one is a copy of it.
    original: str | None = None
    #: Inputs whose content is neither what was submitted nor what the job made of it.
    edited: tuple[str, ...] = ()

    @property
    def is_copy(self) -> bool:
        """Whether the job is another folder's."""
        return self.original is not None

    @property
    def is_sound(self) -> bool:
        """Whether nothing speaks against the job being that of the folder as it is."""
        return not self.is_copy and not self.edited

    def check_own(self, directory: str) -> None:
        """Raise RefusedError if the job is another folder's."""
        if self.is_copy:
            raise RefusedError(self.sentence(directory))

    def sentence(self, directory: str) -> str:
        """Say what is the matter and how to go on; of a folder that is not sound."""
        name = "This folder" if directory == os.curdir else directory
        if self.original is not None:
            return (
                f"{name} holds the job of {self.original}, as a copied folder does. To submit it "
                "as a job of its own, add --new to `leruli task-submit`. For the results of that "
                "job go to its folder."
            )
        return (
            f"{named(self.edited)} changed after the job of {name.lower()} was submitted, so its "
            "results are those of another input. To calculate the new input, add --new to "
            "`leruli task-submit`. To go back, restore what was submitted: "
            "`leruli task-get --with-input` puts it beside."
        )


def standing_of(directory: str, advance: Callable[[int], None] = lambda _: None) -> Standing:
    """Compare a folder with its record; nothing is changed.

    `advance` is called with 0 while files are read. Raises RefusedError for files that cannot be
    read.
    """
    folder = JobFolder(directory)
    record = read_record(directory)
    if record is None or not folder.has_traces():
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
    edited = []
    for name, submitted in record.inputs.items():
        path = str(Path(directory, *name.split("/")))
        # A file that was deleted, perhaps to save space, misleads nobody.
        if not os.path.lexists(path) or submitted.is_at(path, advance):
            continue
        fetched = record.results.get(name)
        if fetched is None or not fetched.is_at(path, advance):
            edited.append(name)
    return edited
