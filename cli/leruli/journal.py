"""The journal of a batch: which folder has which bucket and which job, and what was fetched.

A file beside the batch, of one JSON document a line, only ever appended to:

    {"leruli": "journal of a batch", "batch": "case-*/"}
    {"folder": "case-1", "bucket": "..."}                 before it is submitted
    {"folder": "case-1", "bucket": "...", "job": "..."}   it was accepted
    {"folder": "case-1", "job": "...", "fetched": true}   all of its results are here

The bucket is on the disk, for certain, before the service hears of it. So whatever breaks off
(Ctrl-C, kill -9, the machine) after a job was accepted, the next run submits the same bucket, for
which the service answers the same job.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from leruli.errors import RefusedError
from leruli.jobfolder import JOURNAL_PREFIX

# Longer than whoever only looks has the lock.
_PASSING_BY_S = 0.2

_WILD = frozenset("*?[")


@dataclass(frozen=True)
class Record:
    """What the journal knows of a folder."""

    bucket: str | None = None
    job: str | None = None
    fetched_job: str | None = None


def journal_path(batch: str) -> Path:
    """Where the journal of a batch is: beside its list of folders, or beside the folders.

    `batch` is the argument of --batch: a file, a pattern, or "-".
    """
    if batch == "-":
        return Path(JOURNAL_PREFIX + "stdin")
    path = Path(batch)
    if path.is_file():
        return path.with_name(JOURNAL_PREFIX + path.name)
    parts = path.parts
    fixed = next((n for n, part in enumerate(parts) if _WILD & set(part)), len(parts) - 1)
    rest = "/".join(parts[fixed:])
    digest = hashlib.sha256(rest.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    return Path(*parts[:fixed], JOURNAL_PREFIX + digest)


class JournalView:
    """What a journal says, to be looked at only."""

    def __init__(self, path: Path) -> None:
        self.path = path
        #: Whether another process is at work on the batch: what is read is not the last word then.
        self.is_held = False
        self._base = os.path.realpath(path.parent)
        self._beside = os.path.join(self._base, "")  # noqa: PTH118
        self._records: dict[str, Record] = {}
        self._keys: dict[str, str] = {}  #: of folders, as their names are given

    @classmethod
    def of(cls, batch: str) -> JournalView:
        """Read the journal of a batch, if there is one; raises RefusedError.

        Changes nothing, and does not mind that another process has it.
        """
        view = cls(journal_path(batch))
        view._look()
        return view

    def _look(self) -> None:
        try:
            with self.path.open(encoding="utf-8", errors="surrogateescape") as file:
                self.is_held = _is_held(file)
                self._take_all(file)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise RefusedError(
                f"The journal of the batch, {self.path}, cannot be read: {error.strerror}. It "
                "tells which jobs the folders have."
            ) from error

    def record(self, directory: str) -> Record:
        """Return what is known of a folder."""
        return self._records.get(self._key(directory), Record())

    def record_elsewhere(self, directory: str) -> Record:
        """Return what journals of other patterns or lists beside this one know of a folder.

        The one that was written last counts. They are read at the first call: few folders need it.
        Raises RefusedError.
        """
        for other in self._others:
            found = other.record(directory)
            if found.bucket is not None:
                return found
        return Record()

    @functools.cached_property
    def _others(self) -> list[JournalView]:
        paths = [
            path
            for path in self.path.parent.glob(JOURNAL_PREFIX + "*")
            if path.name != self.path.name and path.is_file()
        ]
        views = [JournalView(path) for path in sorted(paths, key=_written_at, reverse=True)]
        for view in views:
            view._look()
        return views

    def _key(self, directory: str) -> str:
        key = self._keys.get(directory)
        if key is None:
            # Relative, so that the whole tree may be moved.
            real = os.path.realpath(directory)
            if real.startswith(self._beside):  # nearly all are, and relpath is slow
                key = real[len(self._beside) :]
            else:
                key = os.path.relpath(real, self._base)
            self._keys[directory] = key
        return key

    def _take_all(self, lines: Iterable[str]) -> str:
        """Take in what was written; returns the last line."""
        line = "\n"
        for line in lines:
            # What a crash cut short, the line that was being written, says nothing.
            with contextlib.suppress(ValueError):
                self._take(json.loads(line))
        return line

    def _take(self, document: Any) -> None:
        if not isinstance(document, dict) or not isinstance(document.get("folder"), str):
            return
        known = self._records.get(document["folder"], Record())
        if document.get("fetched"):
            known = replace(known, fetched_job=document.get("job"))
        else:
            known = replace(known, bucket=document.get("bucket"), job=document.get("job"))
        self._records[document["folder"]] = known


class Journal(JournalView):
    """An open journal, held by this process alone."""

    def __init__(self, path: Path, file: IO[str]) -> None:
        super().__init__(path)
        self._file = file

    @classmethod
    @contextlib.contextmanager
    def opened(cls, batch: str) -> Iterator[Journal]:
        """Open the journal of a batch, or begin it; raises RefusedError.

        It is refused while another process has it: the two would do the same work twice.
        """
        path = journal_path(batch)
        with _explained(path):
            file = path.open("a+", encoding="utf-8", errors="surrogateescape")
        with file:
            _lock(file, path)
            journal = cls(path, file)
            with _explained(path):
                journal._read(batch)
            try:
                yield journal
            finally:
                journal._sync()

    def claim(self, buckets: Iterable[tuple[str, str]]) -> None:
        """Note folders and their buckets, for certain, before they are submitted."""
        self._append({"folder": self._key(name), "bucket": bucket} for name, bucket in buckets)
        self._sync()

    def accept(self, jobs: Iterable[tuple[str, str, str]]) -> None:
        """Note folders, their buckets and the jobs that they became."""
        self._append(
            {"folder": self._key(name), "bucket": bucket, "job": job} for name, bucket, job in jobs
        )

    def note_fetched(self, directory: str, job: str) -> None:
        """Note that every result of a job that is over is in its folder."""
        self._append([{"folder": self._key(directory), "job": job, "fetched": True}])

    def _read(self, batch: str) -> None:
        self._file.seek(0)
        last = self._take_all(self._file)
        self._file.seek(0, os.SEEK_END)
        if self._file.tell() == 0:
            self._append([{"leruli": "journal of a batch", "batch": batch}])
        elif not last.endswith("\n"):
            self._file.write("\n")

    def _append(self, documents: Iterable[dict[str, Any]]) -> None:
        with _explained(self.path):
            for document in documents:
                self._file.write(json.dumps(document) + "\n")
                self._take(document)
            self._file.flush()

    def _sync(self) -> None:
        with _explained(self.path):
            self._file.flush()
            os.fsync(self._file.fileno())


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RefusedError(
            f"The journal of the batch, {path}, cannot be written: {error.strerror}. It tells an "
            "interrupted batch how far it came: make room for it, then run the same command again."
        ) from error


def _lock(file: IO[str], path: Path) -> None:
    for pause in (_PASSING_BY_S, 0.0):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(pause)
        except OSError:
            return  # a file system without locks
        else:
            return
    raise RefusedError(
        f"Another leruli is at work on this batch: it holds {path}. Wait until it is done, or end "
        "it, then run the same command again."
    )


def _written_at(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _is_held(file: IO[str]) -> bool:
    """Whether another process has the lock; it is had for a moment to find that out."""
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        fcntl.flock(file, fcntl.LOCK_UN)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False
