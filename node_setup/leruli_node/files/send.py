"""Sending one object of an output, for as long as store and lease allow it."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, TypeVar, cast

from leruli_node.fair_pool import FairPool
from leruli_node.files.output_file import OutputFile, open_below
from leruli_node.files.remainder import DiskError
from leruli_node.files.survey import Output
from leruli_node.objects.job_bucket import BUCKET_WENT, JobBucket
from leruli_node.objects.object_store import (
    FileFacts,
    NotFoundError,
    StoreUnavailableError,
    UnstorableError,
    part_bytes,
)
from leruli_node.objects.upload_lease import LeaseTooOldError
from leruli_node.retry import Backoff, Stop

log = logging.getLogger(__name__)

_Result = TypeVar("_Result")

# A file above this takes long to send (bytes).
_LARGE = 2**30


class UploadError(Exception):
    """The output could not be stored; the text is a sentence for a person."""


class SendMemory:
    """Memory for what is being sent, of all outputs together."""

    def __init__(self, total_bytes: int) -> None:
        # Apart, so that files that take hours do not hold up those that take seconds.
        self._pool = FairPool(total_bytes // 2)
        self._pool_of_large = FairPool(total_bytes - total_bytes // 2)

    @contextmanager
    def for_file(self, size: int, stop: Stop) -> Iterator[None]:
        """Hold what sending a file of `size` bytes needs. Raises StoppedError."""
        part = part_bytes(size)
        # While one part is still held the next one is read.
        in_memory = size if size <= part else 2 * part
        with (self._pool_of_large if size > _LARGE else self._pool).reserved(in_memory, stop):
            yield

    @contextmanager
    def for_stream(self, stop: Stop) -> Iterator[None]:
        """Hold what sending something of unknown size needs. Raises StoppedError."""
        with self._pool_of_large.reserved(3 * part_bytes(1), stop):
            yield


@dataclass(frozen=True)
class Sender:
    """Sends to one job's bucket; `retry_for_s` (seconds) bounds the waiting for the store."""

    bucket: JobBucket
    memory: SendMemory
    retry_for_s: float
    stop: Stop

    def retry(self, call: Callable[[], _Result]) -> _Result:
        """Repeat a call while the store is away or the lease too old.

        Raises UploadError when the time is over or the bucket is gone, StoppedError.
        """
        backoff = Backoff(self.stop, self.retry_for_s)
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
                self.bucket.doubt_lease()

    def send(self, key: str, file: BinaryIO, size: int, origin: FileFacts | None = None) -> int:
        """Send an object of `size` bytes; its size.

        Raises UnstorableError, ForeignObjectError, UploadError, StoppedError, OSError of the disk.
        """

        def write() -> None:
            file.seek(0)
            self.bucket.write(key, file, size, origin)

        def send() -> int:
            with self.memory.for_file(size, self.stop):
                try:
                    write()
                except UnstorableError:
                    # A store may take a long name once and refuse to replace the object.
                    if not self.bucket.remove_earlier(key):
                        raise
                    write()
            return size

        try:
            return self.retry(send)
        except DiskError as error:
            raise error.cause from None

    def send_file(self, output: Output, key: str, tail: bytes = b"") -> int:
        """Send a file of the output, followed by `tail` on a line of its own; its size.

        Raises what `send` raises.
        """
        with os.fdopen(open_below(output.top, key), "rb") as file:
            facts = os.fstat(file.fileno())
            size = facts.st_size
            if tail:
                tail = _on_new_line(file, size, tail)
            source = cast(BinaryIO, OutputFile(file, size, tail, self.stop))
            origin = FileFacts(output.inputs.original_mode(key, facts), facts.st_mtime_ns)
            return self.send(key, source, size + len(tail), origin)


def _on_new_line(file: BinaryIO, size: int, text: bytes) -> bytes:
    last = os.pread(file.fileno(), 1, size - 1) if size else b"\n"
    return text if last == b"\n" else b"\n" + text
