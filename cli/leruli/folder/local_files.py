"""Which files of a folder may be replaced by files of the same name from the storage.

A file that a person changed or made is never replaced. The file from the storage is put beside it.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from leruli.cancellation import CheckCancelled
from leruli.errors import RefusedError
from leruli.folder.job_folder import BUCKET_FILE, JOB_FILE, JobFolder
from leruli.folder.record import FileState, Record, read_record

#: Part of the name of a submitted file that is put beside a result of the same name.
INPUT_KIND = "-input"

_MARK_DIGITS = 8
_NOT_HEX = re.compile("[^0-9a-f]")


def known_state(
    record: Record, directory: str, name: str, check_cancelled: CheckCancelled = lambda: None
) -> FileState | None:
    """Return the state of a file that is as submitted or as fetched, None for any other file.

    A link to a file in the folder is also looked up by the name of that file, because its content
    changes with that file. Raises OSError.
    """
    path = Path(directory, *name.split("/"))
    if not path.is_file():
        return None
    for one in (name, link_target(directory, path)):
        for states in (record.results, record.inputs):
            known = states.get(one) if one is not None else None
            if known is not None and known.is_at(str(path), check_cancelled):
                return known
    return None


def link_target(directory: str, path: Path) -> str | None:
    """Return the name of the file that a link leads to; None if it is no link or leads outside."""
    if not path.is_symlink():
        return None
    root, target = Path(directory).resolve(), path.resolve()
    return target.relative_to(root).as_posix() if root in target.parents else None


@dataclass(frozen=True)
class LocalFiles:
    """The known files of a folder, before something is fetched into it."""

    directory: str
    bucket: str
    #: The record of the bucket, None if the folder has none.
    record: Record | None
    #: Without a record: when the folder was submitted with the bucket, in nanoseconds since 1970.
    submitted_ns: int | None
    #: The end of the job id or of the bucket, for names of files that are put beside others.
    mark: str
    overwrite: bool = False

    @classmethod
    def of(
        cls, directory: str, bucket: str, jobid: str | None = None, *, overwrite: bool = False
    ) -> LocalFiles:
        """Read the record of a folder about a bucket and its job. Raises RefusedError.

        `overwrite`: any local file may be replaced.
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

    def known_state(self, name: str, check_cancelled: CheckCancelled) -> FileState | None:
        """Return the state of a file that is as submitted or as fetched. Raises OSError."""
        if self.record is None:
            return None
        return known_state(self.record, self.directory, name, check_cancelled)

    def may_replace(self, name: str, path: Path, check_cancelled: CheckCancelled) -> bool:
        """Whether nobody loses work if the file at `path` is replaced. Raises OSError."""
        if not path.is_file():  # a folder, a pipe, a link that leads nowhere
            return self.overwrite and path.is_symlink()
        if self.overwrite:
            return True
        if self.record is not None:
            return self.known_state(name, check_cancelled) is not None
        return self.submitted_ns is not None and path.stat().st_mtime_ns <= self.submitted_ns

    def names_beside(self, name: str, kind: str = "") -> Iterator[str]:
        """Yield names for a file that is put beside `name`. The caller takes the first free one."""
        first = f"{name}.leruli-{self.mark}{kind}"
        yield first
        for number in itertools.count(2):
            yield f"{first}-{number}"

    def files_beside(self, name: str, kind: str = "") -> Iterator[str]:
        """Yield the names of the files that were put beside `name`."""
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
