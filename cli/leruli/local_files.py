"""Which files of a folder may be replaced by files of the same names from the storage.

A file that a person changed or made is not replaced: what comes from the storage is put beside it.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from leruli.errors import RefusedError
from leruli.jobfolder import BUCKET_FILE, JOB_FILE, JobFolder
from leruli.record import FileState, Record, read_record

#: In the names of submitted files that are put beside a result of the same name.
INPUT_KIND = "-input"

_MARK_DIGITS = 8
_NOT_HEX = re.compile("[^0-9a-f]")

Advance = Callable[[int], None]


def known_state(
    record: Record, directory: str, name: str, advance: Advance = lambda _: None
) -> FileState | None:
    """Return what a file is if it is as it was submitted or fetched, None if not.

    A link is also known by the name of the file in the folder that it leads to: with that file the
    content of the link changes. Raises OSError.
    """
    path = Path(directory, *name.split("/"))
    if not path.is_file():
        return None
    for one in (name, link_target(directory, path)):
        for states in (record.results, record.inputs):
            known = states.get(one) if one is not None else None
            if known is not None and known.is_at(str(path), advance):
                return known
    return None


def link_target(directory: str, path: Path) -> str | None:
    """Return the name of the file that a link leads to; None for no link, or one out of here."""
    if not path.is_symlink():
        return None
    root, target = Path(directory).resolve(), path.resolve()
    return target.relative_to(root).as_posix() if root in target.parents else None


@dataclass(frozen=True)
class LocalFiles:
    """What is known of the files of a folder before something is fetched into it."""

    directory: str
    bucket: str
    #: Of the bucket; None if the folder has none of it.
    record: Record | None
    #: Without a record: when the folder was submitted with the bucket, in nanoseconds since 1970.
    submitted_ns: int | None
    #: In the names of files that are put beside others: the end of the job id or of the bucket.
    mark: str
    overwrite: bool = False

    @classmethod
    def of(
        cls, directory: str, bucket: str, jobid: str | None = None, *, overwrite: bool = False
    ) -> LocalFiles:
        """Read what a folder knows of a bucket and its job. Raises RefusedError.

        `overwrite`: local files may be replaced whatever they are.
        """
        folder = JobFolder(directory)
        is_own = folder.bucket() == bucket or (jobid is not None and folder.job() == jobid)
        record = read_record(directory)
        if record is not None and record.bucket != bucket:
            record = None
        if jobid is None and (is_own or record is not None):
            jobid = folder.job()
        return cls(
            directory,
            bucket,
            record,
            _time_of_submission(directory) if is_own and record is None else None,
            _NOT_HEX.sub("", (jobid or bucket).lower())[-_MARK_DIGITS:],
            overwrite,
        )

    def known_state(self, name: str, advance: Advance) -> FileState | None:
        """Return what a file is if it is as it was submitted or fetched. Raises OSError."""
        if self.record is None:
            return None
        return known_state(self.record, self.directory, name, advance)

    def may_replace(self, name: str, path: Path, advance: Advance) -> bool:
        """Whether nobody would lose work if the file at `path` were replaced. Raises OSError."""
        if not path.is_file():  # a folder, a pipe, a link that leads nowhere
            return self.overwrite and path.is_symlink()
        if self.overwrite:
            return True
        if self.record is not None:
            return self.known_state(name, advance) is not None
        return self.submitted_ns is not None and path.stat().st_mtime_ns <= self.submitted_ns

    def names_beside(self, name: str, kind: str = "") -> Iterator[str]:
        """Yield the names for what is put beside a file, the first one that is free to be used."""
        first = f"{name}.leruli-{self.mark}{kind}"
        yield first
        for number in itertools.count(2):
            yield f"{first}-{number}"

    def files_beside(self, name: str, kind: str = "") -> Iterator[str]:
        """Yield the names of what was put beside a file."""
        return itertools.takewhile(
            lambda beside: os.path.lexists(Path(self.directory, beside)),
            self.names_beside(name, kind),
        )


def _time_of_submission(directory: str) -> int | None:
    """Return the modification time of leruli.job, or of leruli.bucket if there is no job yet."""
    for name in (JOB_FILE, BUCKET_FILE):
        try:
            return Path(directory, name).stat().st_mtime_ns
        except FileNotFoundError:
            continue
        except OSError as error:
            raise RefusedError(f"Cannot read {error.filename}: {error.strerror}.") from error
    return None
