"""Output: every regular file of a rundir to the job's bucket, and what could not be taken."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar, cast

from leruli_node.errors import StoppedError
from leruli_node.fair_pool import FairPool
from leruli_node.files.input_list import InputList
from leruli_node.files.output_file import OutputFile, open_below
from leruli_node.files.remainder import DiskError, Remainder, free_name
from leruli_node.files.survey import LOGS, Output, Sorter, survey
from leruli_node.files.walk import (
    NAMES_SHOWN,
    NOT_UPLOADED,
    OPEN_FOLDER,
    UNREADABLE,
    Skipped,
    shown,
    without_names,
)
from leruli_node.objects.job_bucket import BUCKET_WENT, ForeignObjectError, JobBucket
from leruli_node.objects.object_store import (
    LARGEST,
    FileFacts,
    NotFoundError,
    StoreUnavailableError,
    UnstorableError,
    part_bytes,
)
from leruli_node.objects.upload_lease import LeaseTooOldError
from leruli_node.retry import AnyEvent, Backoff, Stop

log = logging.getLogger(__name__)

_Result = TypeVar("_Result")

_TAKEN = "files whose names have objects that are not of this job"
_REFUSED = "files that the store refuses"
# The archive of the rest holds so many times what may be objects of their own; and what a store
# takes in parts of an object whose size is not known before, in bytes.
_REST_FACTOR = 100
_LARGEST_REST = 150 * 2**30
# A file above this takes long to send (bytes).
_LARGE = 2**30
# How long a disk that fails is asked again, in seconds: it does not come back like a store does.
_DISK_RETRY_FOR_S = 3600.0


class UploadError(Exception):
    """The output could not be stored; the text is a sentence for a person."""


@dataclass(frozen=True)
class Uploaded:
    """What was stored, and sentences about the rest.

    `notes` have the first names, for joberr.txt; the `summary` is short, for the receipt.
    """

    files: int
    bytes: int
    notes: list[str]
    summary: str = ""


class Uploader:
    """Sends rundirs to buckets."""

    def __init__(
        self,
        parallel: int,
        retry_for_s: float,
        max_bytes: int,
        max_files: int = 10_000,
        memory_bytes: int = 160 * 2**20,
    ) -> None:
        """`retry_for_s` in seconds; `max_bytes` and `max_files` of one job's output.

        `memory_bytes` is for what is being sent of all outputs together.
        """
        self._parallel = parallel
        self._retry_for_s = retry_for_s
        self._max_bytes = max_bytes
        self._max_files = max_files
        # Apart, so that files that take hours do not hold up those that take seconds.
        self._memory = FairPool(memory_bytes // 2)
        self._memory_of_large = FairPool(memory_bytes - memory_bytes // 2)

    def upload(
        self,
        bucket: JobBucket,
        rundir: Path | None,
        sentence: str | None,
        stop: Stop,
        inputs: InputList | None = None,
    ) -> Uploaded:
        """Bring the files of `rundir` into the bucket, in place of what earlier attempts brought.

        Files of the `inputs` that the job left unchanged are not brought.
        Foreign objects stay as they are, and files of their names are skipped.
        joblog.txt and joberr.txt are there afterwards in any case when there is a rundir. The
        `sentence` (how it ended) and what was skipped stand at the end of joberr.txt. Without a
        rundir only joberr.txt is written, and not into a bucket with foreign objects. Can be
        repeated.

        Raises UploadError when store or disk fail for too long, the bucket is gone or not
        the job's own; StoppedError.
        """
        backoff = Backoff(stop, min(self._retry_for_s, _DISK_RETRY_FOR_S))
        while True:
            try:
                return self._upload(bucket, rundir, sentence, stop, inputs or InputList())
            except OSError as error:
                log.warning("the output cannot be read: %s", error.strerror)
                if not backoff.pause():
                    raise UploadError(
                        "the node's disk failed while the output was uploaded"
                    ) from None

    def _upload(
        self,
        bucket: JobBucket,
        rundir: Path | None,
        sentence: str | None,
        stop: Stop,
        inputs: InputList,
    ) -> Uploaded:
        if rundir is None:
            text = _lines([sentence] if sentence else [])
            self._refuse_foreign(bucket, Backoff(stop, self._retry_for_s))
            size = self._send(bucket, "joberr.txt", io.BytesIO(text), len(text), stop)
            return Uploaded(1, size, [])
        top = os.open(rundir, OPEN_FOLDER)
        try:
            return self._bring(bucket, Output(top, inputs, stop), sentence, stop)
        finally:
            os.close(top)

    def _bring(
        self, bucket: JobBucket, output: Output, sentence: str | None, stop: Stop
    ) -> Uploaded:
        found = survey(output, self._max_files)
        too_much = self._too_much(found.sizes)
        chosen = {key: size for key, size in found.sizes.items() if key not in too_much}
        left, name = self._max_bytes - sum(chosen.values()), free_name(output.top)
        keep = {*chosen, *LOGS, *([name] if found.has_rest else [])}
        backoff = Backoff(stop, self._retry_for_s)
        unclear = self._while_away(lambda: bucket.remove_previous(keep), bucket, backoff)
        skipped = found.unreadable
        for key, reason in too_much.items():
            skipped.add(reason, shown(key))
        chosen.pop("joberr.txt", None)
        count, total, refused = self._send_all(bucket, output, chosen, skipped, stop)
        packed, passed_over = Skipped(), found.skipped
        if found.has_rest or refused:
            rest = self._send_rest(bucket, output, name, refused, left, stop)
            if rest is None:
                skipped.add(_REFUSED, name)
            else:
                count, total = count + 1, total + rest.size
                packed, passed_over = rest.packed, rest.skipped
        notes = packed.sentences(f"in {name}") + skipped.sentences() + passed_over.sentences()
        parts = {f"in {name}": [packed], NOT_UPLOADED: [skipped, passed_over]}
        summary = "; ".join(without_names(parts) + _of_unclear_origin(unclear))
        notes += _of_unclear_origin(unclear)
        tail = _lines(([sentence] if sentence else []) + notes)
        size = self._send_log(bucket, output, "joberr.txt" in found.sizes, tail, stop)
        if size is None:
            # joberr.txt can tell neither of itself nor of the others; the receipt does.
            lost = Skipped()
            lost.add(_TAKEN, "joberr.txt")
            notes += lost.sentences()
            summary = "; ".join(notes)
        return Uploaded(count + (size is not None), total + (size or 0), notes, summary)

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
        self, bucket: JobBucket, output: Output, sizes: dict[str, int], skipped: Skipped, stop: Stop
    ) -> tuple[int, int, dict[str, str]]:
        """Send these files, and an empty joblog.txt where there is none.

        Returns how many were sent, their bytes, and those that cannot be objects, with the reason.
        """
        failed = threading.Event()
        failures: list[BaseException] = []
        either = AnyEvent(stop, failed)
        refused: dict[str, str] = {}

        def send(key: str) -> int | None:
            if either.is_set():
                return None
            try:
                return self._send_file(bucket, output, key, b"", either)
            except UnstorableError:
                refused[key] = _REFUSED
            except ForeignObjectError:
                refused[key] = _TAKEN
            except OSError as error:
                if error.errno in UNREADABLE:
                    skipped.add("unreadable files", shown(key))
                    return None
                # The first failure is the one to tell; it ends the waiting of the others.
                failures.append(error)
                failed.set()
            except (UploadError, StoppedError) as error:
                failures.append(error)
                failed.set()
            return None

        count = total = 0
        with ThreadPoolExecutor(self._parallel, thread_name_prefix="upload") as pool:
            for size in _some_at_a_time(pool, send, sizes, 2 * self._parallel):
                if size is not None:
                    count, total = count + 1, total + size
        if failures:
            raise failures[0]
        if "joblog.txt" not in sizes:
            with contextlib.suppress(UnstorableError, ForeignObjectError):
                self._send(bucket, "joblog.txt", io.BytesIO(), 0, stop)
                count += 1
        if stop.is_set():
            raise StoppedError
        return count, total, refused

    def _send_file(
        self, bucket: JobBucket, output: Output, key: str, tail: bytes, stop: Stop
    ) -> int:
        with os.fdopen(open_below(output.top, key), "rb") as file:
            facts = os.fstat(file.fileno())
            size = facts.st_size
            if tail:
                tail = _on_new_line(file, size, tail)
            source = cast(BinaryIO, OutputFile(file, size, tail, stop))
            origin = FileFacts(output.inputs.original_mode(key, facts), facts.st_mtime_ns)
            return self._send(bucket, key, source, size + len(tail), stop, origin)

    def _send_log(
        self, bucket: JobBucket, output: Output, is_file: bool, tail: bytes, stop: Stop
    ) -> int | None:
        """Send joberr.txt, last of all, for it says what became of the rest.

        Returns its size in bytes, None when objects that are not of this job are in its place.
        """
        try:
            if is_file:
                try:
                    return self._send_file(bucket, output, "joberr.txt", tail, stop)
                except OSError as error:
                    if error.errno not in UNREADABLE:
                        raise
            return self._send(bucket, "joberr.txt", io.BytesIO(tail), len(tail), stop)
        except (UnstorableError, ForeignObjectError):
            return None

    def _send_rest(
        self,
        bucket: JobBucket,
        output: Output,
        name: str,
        refused: dict[str, str],
        left: int,
        stop: Stop,
    ) -> Remainder | None:
        """Send the archive of what are no objects of their own; None when that is refused."""

        def send() -> Remainder:
            sorter = Sorter(self._max_files)
            rest = Remainder(
                output.entries,
                lambda entry: sorter.reason(entry) or refused.get(entry.key),
                self._max_files * _REST_FACTOR,
                min(left, _LARGEST_REST),
                stop,
            )
            try:
                with self._memory_of_large.reserved(3 * part_bytes(1), stop):
                    bucket.write(name, cast(BinaryIO, rest), -1)
            finally:
                rest.close()
            return rest

        try:
            return self._while_away(send, bucket, Backoff(stop, self._retry_for_s))
        except (UnstorableError, ForeignObjectError):
            return None
        except DiskError as error:
            raise error.cause from None

    def _send(
        self,
        bucket: JobBucket,
        key: str,
        file: BinaryIO,
        size: int,
        stop: Stop,
        origin: FileFacts | None = None,
    ) -> int:
        part = part_bytes(size)
        # While one part is still held the next one is read.
        in_memory = size if size <= part else 2 * part
        memory = self._memory_of_large if size > _LARGE else self._memory

        def write() -> None:
            file.seek(0)
            bucket.write(key, file, size, origin)

        def send() -> int:
            with memory.reserved(in_memory, stop):
                try:
                    write()
                except UnstorableError:
                    # A store may take a long name once and refuse to replace the object.
                    if not bucket.remove_earlier(key):
                        raise
                    write()
            return size

        try:
            return self._while_away(send, bucket, Backoff(stop, self._retry_for_s))
        except DiskError as error:
            raise error.cause from None

    def _refuse_foreign(self, bucket: JobBucket, backoff: Backoff) -> None:
        foreign = self._while_away(lambda: bucket.foreign(NAMES_SHOWN + 1), bucket, backoff)
        if foreign:
            raise UploadError(not_the_jobs(foreign))

    def _while_away(
        self, call: Callable[[], _Result], bucket: JobBucket, backoff: Backoff
    ) -> _Result:
        """Repeat a call while the store is away or the lease too old."""
        while True:
            try:
                return call()
            except NotFoundError:
                raise UploadError(BUCKET_WENT) from None
            except LeaseTooOldError:
                continue  # and wait there until it is renewed
            except StoreUnavailableError as error:
                log.warning("uploading waits for the store: %s", error)
                if not backoff.pause():
                    raise UploadError("the output could not be uploaded in time") from None
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


def _some_at_a_time(
    pool: ThreadPoolExecutor,
    call: Callable[[str], _Result],
    keys: Iterable[str],
    most: int,
) -> Iterator[_Result]:
    """Call for each key; no more than `most` calls wait or run at a time."""
    running: set[Future[_Result]] = set()
    for key in keys:
        running.add(pool.submit(call, key))
        if len(running) >= most:
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            for one in finished:
                yield one.result()
    for one in running:
        yield one.result()


def _lines(sentences: list[str]) -> bytes:
    return "".join(f"leruli: {sentence}\n" for sentence in sentences).encode()


def _on_new_line(file: BinaryIO, size: int, text: bytes) -> bytes:
    last = os.pread(file.fileno(), 1, size - 1) if size else b"\n"
    return text if last == b"\n" else b"\n" + text
