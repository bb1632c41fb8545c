"""Uploading an object of unknown size from a pipe, in a thread."""

from __future__ import annotations

import os
import threading

from leruli.storage.sdk import Minio

MIB = 1024 * 1024

# The SDK holds a part in memory three times while it sends it. S3 allows 10,000 parts an object.
_PART_BYTES = 16 * MIB
_MOST_PARTS = 9_000


def part_bytes(expected_bytes: int) -> int:
    """Return the size of the parts in which an object of about `expected_bytes` is sent."""
    return max(_PART_BYTES, -(-expected_bytes // _MOST_PARTS))


class Upload(threading.Thread):
    """Sends the content of a pipe as one object.

    It has its own thread. So anything that ends the writer early, Ctrl-C included, is an ordinary
    error here, and after an error the SDK removes the parts that it has sent.
    """

    def __init__(self, minio: Minio, bucket: str, name: str, read_end: int, part_size: int) -> None:
        super().__init__(name=f"upload {name}", daemon=True)
        self._minio = minio
        self._target_object = (bucket, name)
        self._pipe = os.fdopen(read_end, "rb", buffering=MIB)
        self._part_size = part_size
        #: Set before the pipe is closed. Without it the end of the pipe is a failure.
        self.content_is_complete = False
        self.error: Exception | None = None

    def run(self) -> None:
        """Send the object; `error` says afterwards how that failed."""
        try:
            self._minio.put_object(
                *self._target_object,
                self,  # type: ignore[arg-type]  # read() is all that it needs
                length=-1,
                part_size=self._part_size,
                num_parallel_uploads=1,
            )
        except Exception as error:  # handed to the writer's thread
            self.error = error
        finally:
            self._pipe.close()  # a writer that is still writing gets BrokenPipeError

    def read(self, size: int) -> bytes:
        """Return exactly `size` bytes unless the content ends: small pieces make the SDK slow."""
        data = self._pipe.read(size)
        if len(data) < size and not self.content_is_complete:
            raise InterruptedError("the content broke off")
        return data
