"""Sends one object of an output, and retries while store and lease allow it."""

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
from leruli_node.objects.object_store import FileFacts, part_bytes
from leruli_node.objects.store_errors import NotFoundError, StoreUnavailableError, UnstorableError
from leruli_node.objects.upload_lease import LeaseTooOldError
from leruli_node.retry import Backoff, Stop

log = logging.getLogger(__name__)

_Result = TypeVar("_Result")

# A larger file (bytes) takes long to send.
_LARGE = 2**30


class UploadError(Exception):
    """The output could not be stored. The text is a sentence for a person."""


class SendMemory:
    """The memory for sending, shared by all outputs."""

    def __init__(self, total_bytes: int) -> None:
        # Two pools, so that files that take hours do not delay those that take seconds.
        self._pool = FairPool(total_bytes // 2)
        self._pool_of_large = FairPool(total_bytes - total_bytes // 2)

    @contextmanager
    def for_file(self, size: int, stop: Stop) -> Iterator[None]:
        """Hold the memory to send a file of `size` bytes. Raises StoppedError."""
        part = part_bytes(size)
        # The next part is read while the previous one is still in memory.
        in_memory = size if size <= part else 2 * part
        with (self._pool_of_large if size > _LARGE else self._pool).reserved(in_memory, stop):
            yield

    @contextmanager
    def for_stream(self, stop: Stop) -> Iterator[None]:
        """Hold the memory to send a stream of unknown size. Raises StoppedError."""
        with self._pool_of_large.reserved(3 * part_bytes(1), stop):
            yield


@dataclass(frozen=True)
class Sender:
    """Sends to one job's bucket. `retry_for_s` is the retry time for the store, in seconds."""

    bucket: JobBucket
    memory: SendMemory
    retry_for_s: float
    stop: Stop

    def retry(self, call: Callable[[], _Result]) -> _Result:
        """Repeat a call while the store is away or the lease is too old.

        Raises
        ------
        UploadError
            The retry time is over, or the bucket is gone.
        StoppedError
            The upload must end.
        """
        backoff = Backoff(self.stop, self.retry_for_s)
        while True:
            try:
                return call()
            except NotFoundError:
                raise UploadError(BUCKET_WENT) from None
            except LeaseTooOldError:
                continue  # the next try waits for the renewal
            except StoreUnavailableError as error:
                log.warning("uploading waits for the store: %s", error)
                if not backoff.pause():
                    raise UploadError("the output could not be uploaded in time") from None
                self.bucket.doubt_lease()

    def send(self, key: str, file: BinaryIO, size: int, origin: FileFacts | None = None) -> int:
        """Send an object of `size` bytes. Return its size.

        Raises
        ------
        UnstorableError, ForeignObjectError
            The store accepts no such object, or a foreign one has this name.
        UploadError, StoppedError
            As `retry`.
        OSError
            The disk failed.
        """

        def write() -> None:
            file.seek(0)
            self.bucket.write(key, file, size, origin)

        def send() -> int:
            with self.memory.for_file(size, self.stop):
                try:
                    write()
                except UnstorableError:
                    # A store may accept a long name once and refuse to replace the object.
                    if not self.bucket.remove_earlier(key):
                        raise
                    write()
            return size

        try:
            return self.retry(send)
        except DiskError as error:
            raise error.cause from None

    def send_file(self, output: Output, key: str, tail: bytes = b"") -> int:
        """Send a file of the output, with `tail` appended on a line of its own. Return its size.

        Raises the errors of `send`.
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
