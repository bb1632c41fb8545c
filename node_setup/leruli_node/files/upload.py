"""Output: every regular file of a rundir to the job's bucket, and what could not be taken."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, TypeVar, cast

from leruli_node.errors import StoppedError
from leruli_node.files.input_list import InputList
from leruli_node.files.remainder import DiskError, Remainder, free_name
from leruli_node.files.send import Sender, SendMemory, UploadError
from leruli_node.files.survey import LOGS, Output, Sorter, survey
from leruli_node.files.upload_notes import as_lines, not_the_jobs, of_unclear_origin
from leruli_node.files.walk import (
    NAMES_SHOWN,
    NOT_UPLOADED,
    OPEN_FOLDER,
    UNREADABLE,
    Skipped,
    shown,
    without_names,
)
from leruli_node.objects.job_bucket import ForeignObjectError, JobBucket
from leruli_node.objects.object_store import (
    LARGEST,
    UnstorableError,
)
from leruli_node.retry import AnyEvent, Backoff, Stop, retrying

log = logging.getLogger(__name__)

_Result = TypeVar("_Result")

_TAKEN = "files whose names have objects that are not of this job"
_REFUSED = "files that the store refuses"
# The archive of the rest holds so many times what may be objects of their own; and what a store
# takes in parts of an object whose size is not known before, in bytes.
_REST_FACTOR = 100
_LARGEST_REST = 150 * 2**30
# How long a disk that fails is asked again, in seconds: it does not come back like a store does.
_DISK_RETRY_FOR_S = 3600.0


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
        self._memory = SendMemory(memory_bytes)

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

        def report(error: Exception) -> None:
            log.warning("the output cannot be read: %s", cast(OSError, error).strerror)

        sender = Sender(bucket, self._memory, self._retry_for_s, stop)
        backoff = Backoff(stop, min(self._retry_for_s, _DISK_RETRY_FOR_S))
        try:
            return retrying(
                lambda: self._upload(sender, rundir, sentence, inputs or InputList()),
                OSError,
                backoff,
                report,
            )
        except OSError:
            raise UploadError("the node's disk failed while the output was uploaded") from None

    def _upload(
        self, sender: Sender, rundir: Path | None, sentence: str | None, inputs: InputList
    ) -> Uploaded:
        if rundir is None:
            text = as_lines([sentence] if sentence else [])
            _refuse_foreign(sender)
            return Uploaded(1, sender.send("joberr.txt", io.BytesIO(text), len(text)), [])
        top = os.open(rundir, OPEN_FOLDER)
        try:
            return self._bring(sender, Output(top, inputs, sender.stop), sentence)
        finally:
            os.close(top)

    def _bring(self, sender: Sender, output: Output, sentence: str | None) -> Uploaded:
        found = survey(output, self._max_files)
        too_much = self._too_much(found.sizes)
        chosen = {key: size for key, size in found.sizes.items() if key not in too_much}
        left, name = self._max_bytes - sum(chosen.values()), free_name(output.top)
        keep = {*chosen, *LOGS, *([name] if found.has_rest else [])}
        unclear = sender.retry(lambda: sender.bucket.remove_previous(keep))
        skipped = found.unreadable
        for key, reason in too_much.items():
            skipped.add(reason, shown(key))
        chosen.pop("joberr.txt", None)
        count, total, refused = self._send_all(sender, output, chosen, skipped)
        packed, passed_over = Skipped(), found.skipped
        if found.has_rest or refused:
            rest = self._send_rest(sender, output, name, refused, left)
            if rest is None:
                skipped.add(_REFUSED, name)
            else:
                count, total = count + 1, total + rest.size
                packed, passed_over = rest.packed, rest.skipped
        notes = packed.sentences(f"in {name}") + skipped.sentences() + passed_over.sentences()
        parts = {f"in {name}": [packed], NOT_UPLOADED: [skipped, passed_over]}
        summary = "; ".join(without_names(parts) + of_unclear_origin(unclear))
        notes += of_unclear_origin(unclear)
        tail = as_lines(([sentence] if sentence else []) + notes)
        size = _send_log(sender, output, "joberr.txt" in found.sizes, tail)
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
        self, sender: Sender, output: Output, sizes: dict[str, int], skipped: Skipped
    ) -> tuple[int, int, dict[str, str]]:
        """Send these files, and an empty joblog.txt where there is none.

        Returns how many were sent, their bytes, and those that cannot be objects, with the reason.
        """
        failed = threading.Event()
        failures: list[BaseException] = []
        either = AnyEvent(sender.stop, failed)
        one_sender = replace(sender, stop=either)
        refused: dict[str, str] = {}

        def send(key: str) -> int | None:
            if either.is_set():
                return None
            try:
                return one_sender.send_file(output, key)
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
                sender.send("joblog.txt", io.BytesIO(), 0)
                count += 1
        if sender.stop.is_set():
            raise StoppedError
        return count, total, refused

    def _send_rest(
        self,
        sender: Sender,
        output: Output,
        name: str,
        refused: dict[str, str],
        left: int,
    ) -> Remainder | None:
        """Send the archive of what are no objects of their own; None when that is refused."""

        def send() -> Remainder:
            sorter = Sorter(self._max_files)
            rest = Remainder(
                output.entries,
                lambda entry: sorter.reason(entry) or refused.get(entry.key),
                self._max_files * _REST_FACTOR,
                min(left, _LARGEST_REST),
                sender.stop,
            )
            try:
                with sender.memory.for_stream(sender.stop):
                    sender.bucket.write(name, cast(BinaryIO, rest), -1)
            finally:
                rest.close()
            return rest

        try:
            return sender.retry(send)
        except (UnstorableError, ForeignObjectError):
            return None
        except DiskError as error:
            raise error.cause from None


def _send_log(sender: Sender, output: Output, is_file: bool, tail: bytes) -> int | None:
    """Send joberr.txt, last of all, for it says what became of the rest.

    Returns its size in bytes, None when objects that are not of this job are in its place.
    """
    try:
        if is_file:
            try:
                return sender.send_file(output, "joberr.txt", tail)
            except OSError as error:
                if error.errno not in UNREADABLE:
                    raise
        return sender.send("joberr.txt", io.BytesIO(tail), len(tail))
    except (UnstorableError, ForeignObjectError):
        return None


def _refuse_foreign(sender: Sender) -> None:
    foreign = sender.retry(lambda: sender.bucket.foreign(NAMES_SHOWN + 1))
    if foreign:
        raise UploadError(not_the_jobs(foreign))


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
