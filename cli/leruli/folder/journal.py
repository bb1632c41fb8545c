"""The journal of a batch: the bucket and the job of each folder, and whether it was fetched.

It is a file beside the batch with one JSON document per line. Lines are only appended:

    {"leruli": "journal of a batch", "batch": "case-*/"}
    {"batchid": "...", "name": "scan"}                    the service's batch of the lines below
    {"folder": "case-1", "bucket": "..."}                 before the submission
    {"folder": "case-1", "bucket": "...", "job": "..."}   the job was accepted
    {"folder": "case-1", "job": "...", "fetched": true}   all its results are in the folder

The bucket is on the disk (fsync) before the client submits it. So after any interruption (Ctrl-C,
kill -9, a power cut) the next run submits the same bucket, and the service answers the same job.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import json
import os
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from leruli.errors import RefusedError
from leruli.folder.job_folder import JOURNAL_PREFIX

# A reader holds the lock for less than this (s).
_READER_LOCK_S = 0.2

_WILD = frozenset("*?[")


@dataclass(frozen=True)
class JournalEntry:
    """What the journal says of a folder."""

    bucket: str | None = None
    job: str | None = None
    fetched_job: str | None = None
    batch: str | None = None  #: id of the batch that the job joined


def journal_path(batch: str) -> Path:
    """Return the path of a batch's journal: beside its list of folders, or beside the folders.

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
    """A read-only view of a journal."""

    def __init__(self, path: Path) -> None:
        self.path = path
        #: Batches of the service, by id their names. The last one is the current one.
        self.batches: dict[str, str] = {}
        #: Whether another process holds the journal. Then it may change after this read.
        self.is_held = False
        self._base = os.path.realpath(path.parent)
        self._beside = os.path.join(self._base, "")  # noqa: PTH118
        self._entries: dict[str, JournalEntry] = {}
        self._keys: dict[str, str] = {}  #: folder as it was named: its name in the journal

    @classmethod
    def of(cls, batch: str) -> JournalView:
        """Read the journal of a batch; without one the view is empty. Raises RefusedError.

        Changes nothing. Another process may hold the journal meanwhile.
        """
        view = cls(journal_path(batch))
        view._load()
        return view

    @classmethod
    def at(cls, path: Path) -> JournalView:
        """Read the journal in a file. Raises RefusedError."""
        view = cls(path)
        view._load()
        return view

    @property
    def batch(self) -> str | None:
        """The id of the current batch of the service, None before the first one."""
        return next(reversed(self.batches), None)

    def folders_of(self, batchid: str) -> list[str]:
        """Return the folders whose last job joined a batch, as paths from the current folder."""
        here = os.path.realpath(os.curdir)
        return [
            os.path.relpath(os.path.join(self._base, key), here)  # noqa: PTH118
            for key, entry in self._entries.items()
            if entry.batch == batchid
        ]

    def _load(self) -> None:
        try:
            with self.path.open(encoding="utf-8", errors="surrogateescape") as file:
                self.is_held = _is_held(file)
                self._read_lines(file)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise RefusedError(
                f"The journal of the batch, {self.path}, cannot be read: {error.strerror}. It "
                "says which jobs the folders have."
            ) from error

    def entry(self, directory: str) -> JournalEntry:
        """Return the entry of a folder, an empty one if it is not in the journal."""
        return self._entries.get(self._key(directory), JournalEntry())

    def entry_elsewhere(self, directory: str) -> JournalEntry:
        """Return the entry of a folder in the journals of other patterns and lists beside this one.

        The journal that was written last counts. They are read at the first call, because few
        folders need them. Raises RefusedError.
        """
        for other in self._others:
            found = other.entry(directory)
            if found.bucket is not None:
                return found
        return JournalEntry()

    @functools.cached_property
    def _others(self) -> list[JournalView]:
        paths = [
            path
            for path in self.path.parent.glob(JOURNAL_PREFIX + "*")
            if path.name != self.path.name and path.is_file()
        ]
        views = [JournalView(path) for path in sorted(paths, key=_written_at, reverse=True)]
        for view in views:
            view._load()
        return views

    def _key(self, directory: str) -> str:
        key = self._keys.get(directory)
        if key is None:
            # The name is relative, so the whole tree may be moved.
            real = os.path.realpath(directory)
            if real.startswith(self._beside):  # true for nearly all; relpath is slow
                key = real[len(self._beside) :]
            else:
                key = os.path.relpath(real, self._base)
            self._keys[directory] = key
        return key

    def _read_lines(self, lines: Iterable[str]) -> str:
        """Read the lines of a journal and return the last one."""
        line = "\n"
        for line in lines:
            # Ignore a line that a crash cut off.
            with contextlib.suppress(ValueError):
                self._add(json.loads(line))
        return line

    def _add(self, document: Any) -> None:
        if not isinstance(document, dict):
            return
        if isinstance(document.get("batchid"), str):
            self.batches.pop(document["batchid"], None)
            self.batches[document["batchid"]] = str(document.get("name", ""))
        if not isinstance(document.get("folder"), str):
            return
        known = self._entries.get(document["folder"], JournalEntry())
        if document.get("fetched"):
            known = replace(known, fetched_job=document.get("job"))
        else:
            known = replace(
                known, bucket=document.get("bucket"), job=document.get("job"), batch=self.batch
            )
        self._entries[document["folder"]] = known


class Journal(JournalView):
    """An open journal, which this process has locked."""

    def __init__(self, path: Path, file: IO[str]) -> None:
        super().__init__(path)
        self._file = file

    @classmethod
    @contextlib.contextmanager
    def opened(cls, batch: str) -> Iterator[Journal]:
        """Open and lock the journal of a batch; make it if it is absent. Raises RefusedError.

        It is refused while another process holds it, because both would do the same work.
        """
        with cls.opened_at(journal_path(batch), batch) as journal:
            yield journal

    @classmethod
    @contextlib.contextmanager
    def opened_at(cls, path: Path, batch: str = "") -> Iterator[Journal]:
        """As `opened`, the journal in a file."""
        with _map_write_errors(path):
            file = path.open("a+", encoding="utf-8", errors="surrogateescape")
        with file:
            _lock(file, path)
            journal = cls(path, file)
            with _map_write_errors(path):
                journal._read(batch)
            try:
                yield journal
            finally:
                journal._sync()

    def join(self, name: str | None, default: str) -> tuple[str, str]:
        """Return id and name of the service's batch; make one if there is none of this name.

        Without a name the current batch goes on; the first one is then called `default`. A new id
        is on the disk before it is used.
        """
        batchid = self.batch
        if batchid is None or name not in (None, self.batches[batchid]):
            batchid = str(uuid.uuid4())
            self._append([{"batchid": batchid, "name": default if name is None else name}])
            self._sync()
        return batchid, self.batches[batchid]

    def claim(self, buckets: Iterable[tuple[str, str]]) -> None:
        """Write folders and their buckets to the disk (fsync), before they are submitted."""
        self._append({"folder": self._key(name), "bucket": bucket} for name, bucket in buckets)
        self._sync()

    def accept(self, jobs: Iterable[tuple[str, str, str]]) -> None:
        """Write folders with their buckets and accepted jobs."""
        self._append(
            {"folder": self._key(name), "bucket": bucket, "job": job} for name, bucket, job in jobs
        )

    def note_fetched(self, directory: str, job: str) -> None:
        """Write that all results of a job that is over are in its folder."""
        self._append([{"folder": self._key(directory), "job": job, "fetched": True}])

    def _read(self, batch: str) -> None:
        self._file.seek(0)
        last = self._read_lines(self._file)
        self._file.seek(0, os.SEEK_END)
        if self._file.tell() == 0:
            self._append([{"leruli": "journal of a batch", "batch": batch}])
        elif not last.endswith("\n"):
            self._file.write("\n")

    def _append(self, documents: Iterable[dict[str, Any]]) -> None:
        with _map_write_errors(self.path):
            for document in documents:
                self._file.write(json.dumps(document) + "\n")
                self._add(document)
            self._file.flush()

    def _sync(self) -> None:
        with _map_write_errors(self.path):
            self._file.flush()
            os.fsync(self._file.fileno())


@contextlib.contextmanager
def _map_write_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RefusedError(
            f"The journal of the batch, {path}, cannot be written: {error.strerror}. An "
            "interrupted batch continues from it. Free space on its disk, then run the same "
            "command again."
        ) from error


def _lock(file: IO[str], path: Path) -> None:
    for pause in (_READER_LOCK_S, 0.0):
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
    """Return whether another process holds the lock. The test takes it for a moment."""
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        fcntl.flock(file, fcntl.LOCK_UN)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False
