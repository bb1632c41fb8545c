"""Uploads the output: every regular file of a rundir, and notes about the rest."""

from __future__ import annotations

import io
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from leruli_node.files.input_list import InputList
from leruli_node.files.remainder import DiskError, Remainder, free_name
from leruli_node.files.send import Sender, SendMemory, UploadError
from leruli_node.files.send_all import REFUSED, TAKEN, send_all
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
from leruli_node.objects.object_store import LARGEST
from leruli_node.objects.store_errors import UnstorableError
from leruli_node.retry import Backoff, Stop, retrying

log = logging.getLogger(__name__)

# The archive of the rest holds at most this many times the maximum of objects.
_REST_FACTOR = 100
# Bytes that a store accepts in parts for an object of unknown size.
_LARGEST_REST = 150 * 2**30
# Retry time of a failing disk in seconds. Unlike a store, a disk rarely recovers.
_DISK_RETRY_FOR_S = 3600.0


@dataclass(frozen=True)
class Uploaded:
    """The stored objects, and sentences about the rest.

    `notes` contain the first names, for joberr.txt. `summary` is short, for the receipt.
    """

    files: int
    bytes: int
    notes: list[str]
    summary: str = ""
    # What the job's files took on the disk.
    disk_bytes: int = 0


class Uploader:
    """Uploads rundirs to buckets."""

    def __init__(
        self,
        parallel: int,
        retry_for_s: float,
        max_bytes: int,
        max_files: int = 10_000,
        memory_bytes: int = 160 * 2**20,
    ) -> None:
        """Build the uploader.

        Parameters
        ----------
        parallel
            Files of one output that are sent at a time.
        retry_for_s
            Retry time for the store, in seconds.
        max_bytes, max_files
            Limits of one job's output.
        memory_bytes
            Memory for sending, shared by all outputs.
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
        """Upload the files of `rundir` in place of earlier objects. Can be repeated.

        - Objects of earlier attempts are removed or replaced.
        - Input files that the job left unchanged are not uploaded.
        - Foreign objects stay as they are; files of their names are skipped.
        - With a rundir, joblog.txt and joberr.txt exist afterwards in any case.
        - joberr.txt ends with the `sentence` (how the attempt ended) and what was skipped.
        - Without a rundir only joberr.txt is written, and not into a bucket with foreign objects.

        Raises
        ------
        UploadError
            Store or disk failed for too long, or the bucket is gone or not the job's own.
        StoppedError
            The upload must end.
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
            return self._upload_files(sender, Output(top, inputs, sender.stop), sentence)
        finally:
            os.close(top)

    def _upload_files(self, sender: Sender, output: Output, sentence: str | None) -> Uploaded:
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
        count, total, refused = send_all(sender, output, chosen, skipped, self._parallel)
        packed, passed_over = Skipped(), found.skipped
        if found.has_rest or refused:
            rest = self._send_rest(sender, output, name, refused, left)
            if rest is None:
                skipped.add(REFUSED, name)
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
            # joberr.txt cannot be written, so the receipt has all notes.
            lost = Skipped()
            lost.add(TAKEN, "joberr.txt")
            notes += lost.sentences()
            summary = "; ".join(notes)
        sent, total = count + (size is not None), total + (size or 0)
        return Uploaded(sent, total, notes, summary, found.disk.bytes)

    def _too_much(self, sizes: dict[str, int]) -> dict[str, str]:
        """Return the files that are too large to be sent, with the reason.

        Small files are preferred, and the logs come first of all.
        """
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

    def _send_rest(
        self,
        sender: Sender,
        output: Output,
        name: str,
        refused: dict[str, str],
        left: int,
    ) -> Remainder | None:
        """Send the archive of the rest. Return None if the store refuses it."""

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
    """Send joberr.txt last, as it reports on all other files.

    Returns
    -------
    Its size in bytes, None if a foreign object has its name.
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
