"""Output: every regular file of a rundir to the job's bucket, and what could not be taken."""

from __future__ import annotations

import errno
import io
import logging
import os
import stat
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, TypeVar, cast

from leruli_node.errors import Interrupted
from leruli_node.job_bucket import INPUT, ForeignObjectError, JobBucket
from leruli_node.object_store import LARGEST, NotThere, StoreAway, Unstorable
from leruli_node.retry import AnyEvent, Backoff, Stop
from leruli_node.upload_lease import LeaseTooOldError

log = logging.getLogger(__name__)

_Result = TypeVar("_Result")

RESERVED = frozenset({INPUT, "run.sh"})
LOGS = ("joblog.txt", "joberr.txt")
_DEEPEST = 100
_LONGEST_KEY = 1024
NAMES_SHOWN = 5
# Of one file, and for good; anything else (a disk that fails, too many open files) is the node's.
_UNREADABLE = (errno.EACCES, errno.EPERM, errno.ENOENT, errno.ELOOP, errno.ENXIO)
_TAKEN = "files whose names have objects that are not of this job"
# How long a disk that fails is asked again, in seconds: it does not come back like a store does.
_DISK_PATIENCE = 3600.0
# What S3's listings, which are XML, cannot carry.
_CONTROL = frozenset(map(chr, (*range(32), 127, 0xFFFE, 0xFFFF)))


class UploadFailed(Exception):
    """The output could not be stored; the text is a sentence for a person."""


@dataclass
class Skipped:
    """What is not uploaded, by reason."""

    by_reason: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, name: str) -> None:
        """Note one name; `reason` is a phrase such as "links"."""
        self.by_reason.setdefault(reason, []).append(name)

    def sentences(self) -> list[str]:
        """One sentence a reason, with the first few names."""
        return [
            f"not uploaded: {len(names)} {reason}: {_listed(names)}"
            for reason, names in sorted(self.by_reason.items())
        ]


@dataclass(frozen=True)
class Uploaded:
    """What was stored, and sentences about what was not."""

    files: int
    bytes: int
    notes: list[str]


def walk(top: int, skipped: Skipped) -> Iterator[tuple[str, int]]:
    """The regular files under the folder that `top` is open on: key and an open descriptor.

    Nothing is followed: every name is opened relative to its folder, without links and without
    waiting (a pipe would), and then looked at. The one who iterates closes the descriptor.

    Raises OSError for trouble that is not one file's own.
    """
    yield from _walk(top, "", 0, skipped)


def _walk(folder: int, prefix: str, depth: int, skipped: Skipped) -> Iterator[tuple[str, int]]:
    for name in sorted(os.listdir(folder)):
        key = prefix + name
        try:
            mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
        except OSError as error:
            _skip_unreadable(error, key, skipped)
            continue
        if stat.S_ISLNK(mode):
            skipped.add("links", shown(key))
            continue
        if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
            skipped.add("pipes, sockets or devices", shown(key))
            continue
        reason = _unfit(key, depth)
        if reason:
            skipped.add(reason, shown(key))
            continue
        if not prefix and name in RESERVED:
            if name == INPUT:
                skipped.add("files with a reserved name", name)
            continue
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            descriptor = os.open(name, flags, dir_fd=folder)
        except OSError as error:
            _skip_unreadable(error, key, skipped)
            continue
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            try:
                yield from _walk(descriptor, key + "/", depth + 1, skipped)
            finally:
                os.close(descriptor)
        elif stat.S_ISREG(os.fstat(descriptor).st_mode):
            yield key, descriptor
        else:  # pragma: no cover - it changed between the two looks
            os.close(descriptor)


def _skip_unreadable(error: OSError, key: str, skipped: Skipped) -> None:
    if error.errno not in _UNREADABLE:
        raise error
    skipped.add("unreadable files", shown(key))


def _unfit(key: str, depth: int) -> str | None:
    try:
        encoded = key.encode("utf-8")
    except UnicodeEncodeError:
        return "files whose names are not UTF-8"
    if not _CONTROL.isdisjoint(key):
        return "files with control characters in their names"
    if len(encoded) > _LONGEST_KEY:
        return f"files with a path longer than {_LONGEST_KEY} bytes"
    if depth > _DEEPEST:
        return f"files in more than {_DEEPEST} folders"
    return None


def shown(name: str) -> str:
    """A name as it can be told to a person: bytes that are not UTF-8 escaped, no line breaks."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)[:120]


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(names[:NAMES_SHOWN]) + more


class Uploader:
    """Sends rundirs to buckets."""

    def __init__(self, parallel: int, patience: float, max_bytes: int) -> None:
        """`patience` in seconds, `max_bytes` of one job's output."""
        self._parallel = parallel
        self._patience = patience
        self._max_bytes = max_bytes

    def upload(
        self, bucket: JobBucket, rundir: Path | None, sentence: str | None, stop: Stop
    ) -> Uploaded:
        """Bring the files of `rundir` into the bucket, in place of what earlier attempts brought.

        Foreign objects stay as they are, and files of their names are skipped.
        joblog.txt and joberr.txt are there afterwards in any case when there is a rundir. The
        `sentence` (how it ended) and what was skipped stand at the end of joberr.txt. Without a
        rundir only joberr.txt is written, and not into a bucket with foreign objects. Can be
        repeated.

        Raises UploadFailed when the patience with store or disk is over, the bucket is gone or not
        the job's own; Interrupted.
        """
        backoff = Backoff(stop, min(self._patience, _DISK_PATIENCE))
        while True:
            try:
                return self._upload(bucket, rundir, sentence, stop)
            except OSError as error:
                log.warning("the output cannot be read: %s", error.strerror)
                if not backoff.pause():
                    raise UploadFailed(
                        "the node's disk failed while the output was uploaded"
                    ) from None

    def _upload(
        self, bucket: JobBucket, rundir: Path | None, sentence: str | None, stop: Stop
    ) -> Uploaded:
        backoff = Backoff(stop, self._patience)
        if rundir is None:
            text = _lines([sentence] if sentence else [])
            self._refuse_foreign(bucket, backoff)
            size = self._send(bucket, "joberr.txt", io.BytesIO(text), len(text), backoff)
            return Uploaded(1, size, [])
        top = os.open(rundir, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            skipped = Skipped()
            sizes = {}
            for key, descriptor in walk(top, skipped):
                try:
                    sizes[key] = os.fstat(descriptor).st_size
                finally:
                    os.close(descriptor)
            too_much = self._too_much(sizes)
            for key, reason in sorted(too_much.items()):
                skipped.add(reason, shown(key))
            keep = (set(sizes) - set(too_much)) | set(LOGS)
            unclear = self._while_away(lambda: bucket.make_room(keep), bucket, backoff)
            for key in sorted(bucket.taken):
                skipped.add(_TAKEN, shown(key))
            notes = _of_unclear_origin(unclear)
            tail = _lines(([sentence] if sentence else []) + skipped.sentences() + notes)
            done = self._send_all(bucket, top, too_much, tail, stop)
            return replace(done, notes=done.notes + notes)
        finally:
            os.close(top)

    def _too_much(self, sizes: dict[str, int]) -> dict[str, str]:
        """What is too large to be sent, and why: small files go first, the logs before all."""
        reasons = {}
        total = 0
        for key, size in sorted(
            sizes.items(), key=lambda one: (one[0] not in LOGS, one[1], one[0])
        ):
            if size > LARGEST:
                reasons[key] = f"files of more than {LARGEST // 2**30} GB"
            elif total + size > self._max_bytes:
                reasons[key] = f"files beyond the {self._max_bytes // 2**20} MB of output of a job"
            else:
                total += size
        return reasons

    def _send_all(
        self, bucket: JobBucket, top: int, too_much: dict[str, str], log_tail: bytes, stop: Stop
    ) -> Uploaded:
        # Anew: what can be opened may have changed since the first walk.
        skipped = Skipped()
        failed = threading.Event()
        failures: list[BaseException] = []
        either = AnyEvent(stop, failed)
        done: set[str] = set()
        count = total = 0

        def send(key: str, file: BinaryIO, size: int) -> int:
            try:
                return self._send(bucket, key, file, size, Backoff(either, self._patience))
            except Unstorable:
                skipped.add("files that the store refuses", shown(key))
                return -1
            except ForeignObjectError:
                skipped.add(_TAKEN, shown(key))
                return -1
            except (UploadFailed, Interrupted, OSError) as error:
                # The first failure is the one to tell; it ends the waiting of the others.
                failures.append(error)
                failed.set()
                return -1
            finally:
                file.close()

        with ThreadPoolExecutor(self._parallel, thread_name_prefix="upload") as pool:
            running: set[Future[int]] = set()
            try:
                for key, descriptor in walk(top, skipped):
                    file = os.fdopen(descriptor, "rb")
                    if either.is_set():
                        file.close()
                        break
                    if key in too_much:
                        skipped.add(too_much[key], shown(key))
                        file.close()
                        continue
                    size = os.fstat(descriptor).st_size
                    tail = b""
                    if key == "joberr.txt" and log_tail:
                        tail = _on_new_line(file, size, log_tail)
                    source = cast(BinaryIO, _Source(file, size, tail, either))
                    done.add(key)
                    running.add(pool.submit(send, key, source, size + len(tail)))
                    # A bound on open files and on parts in memory.
                    while len(running) >= 2 * self._parallel:
                        finished, running = wait(running, return_when=FIRST_COMPLETED)
                        for one in finished:
                            count, total = _sum(count, total, one.result())
            except OSError as error:
                # Nobody is to wait for the store when the disk has failed.
                failures.append(error)
                failed.set()
            for key in () if either.is_set() else set(LOGS) - done:
                text = log_tail if key == "joberr.txt" else b""
                running.add(pool.submit(send, key, io.BytesIO(text), len(text)))
            for one in running:
                count, total = _sum(count, total, one.result())
        if failures:
            raise failures[0]
        if stop.is_set():
            raise Interrupted
        return Uploaded(count, total, skipped.sentences())

    def _send(
        self, bucket: JobBucket, key: str, file: BinaryIO, size: int, backoff: Backoff
    ) -> int:
        def send() -> int:
            file.seek(0)
            bucket.write(key, file, size)
            return size

        try:
            return self._while_away(send, bucket, backoff)
        except _DiskFault as error:
            raise error.cause from None

    def _refuse_foreign(self, bucket: JobBucket, backoff: Backoff) -> None:
        foreign = self._while_away(lambda: bucket.foreign(NAMES_SHOWN + 1), bucket, backoff)
        if foreign:
            raise UploadFailed(not_the_jobs(foreign))

    def _while_away(
        self, call: Callable[[], _Result], bucket: JobBucket, backoff: Backoff
    ) -> _Result:
        """Repeat a call while the store is away or the lease too old."""
        while True:
            try:
                return call()
            except NotThere:
                raise UploadFailed("the job's bucket is not there any more") from None
            except LeaseTooOldError:
                continue  # and wait there until it is renewed
            except StoreAway as error:
                log.warning("uploading waits for the store: %s", error)
                if not backoff.pause():
                    raise UploadFailed("the output could not be uploaded in time") from None
                bucket.doubt_lease()


def not_the_jobs(foreign: list[str]) -> str:
    """Say of a bucket that it holds these objects, of which the job wrote none."""
    return (
        f"its bucket holds objects that are not of this job: {_listed_names(foreign)}. Nothing in "
        "the bucket was changed. Submit again with a new bucket that holds run.tgz alone"
    )


def _listed_names(names: list[str]) -> str:
    more = ", and more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(shown(name) for name in names[:NAMES_SHOWN]) + more


def _of_unclear_origin(names: list[str]) -> list[str]:
    if not names:
        return []
    return [
        "left in the bucket: objects that may be of an earlier attempt, by an older version of the "
        f"node agent: {_listed_names(names)}"
    ]


class _DiskFault(Exception):
    """An OSError of the disk, that it is not taken for one of the network."""

    def __init__(self, cause: OSError) -> None:
        super().__init__(cause.strerror)
        self.cause = cause


class _Source:
    """A file followed by some bytes, read as one and from the start again, until told to stop."""

    def __init__(self, file: BinaryIO, size: int, tail: bytes, stop: Stop) -> None:
        self._file = file
        self._size = size
        self._tail = tail
        self._stop = stop
        self._at = 0

    def read(self, size: int | None = -1) -> bytes:
        """Up to `size` bytes. Raises Interrupted when to stop, _DiskFault."""
        if self._stop.is_set():
            raise Interrupted
        end = self._size + len(self._tail)
        wanted = end - self._at if size is None or size < 0 else min(size, end - self._at)
        data = b""
        if self._at < self._size:
            try:
                data = self._file.read(min(wanted, self._size - self._at))
            except OSError as error:
                raise _DiskFault(error) from None
        start = self._at + len(data) - self._size
        if start >= 0:
            data += self._tail[start : start + wanted - len(data)]
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        """Only to an offset from the start."""
        self._at = self._file.seek(offset)
        return self._at

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _sum(count: int, total: int, size: int) -> tuple[int, int]:
    return (count, total) if size < 0 else (count + 1, total + size)


def _lines(sentences: list[str]) -> bytes:
    return "".join(f"leruli: {sentence}\n" for sentence in sentences).encode()


def _on_new_line(file: BinaryIO, size: int, text: bytes) -> bytes:
    last = os.pread(file.fileno(), 1, size - 1) if size else b"\n"
    return text if last == b"\n" else b"\n" + text
