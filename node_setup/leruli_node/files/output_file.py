"""Opens one file of the output below its folder, and reads it with some bytes appended."""

from __future__ import annotations

import os
from typing import BinaryIO

from leruli_node.errors import StoppedError
from leruli_node.files.remainder import DiskError
from leruli_node.files.walk import OPEN_FILE, OPEN_FOLDER
from leruli_node.retry import Stop


def open_below(top: int, key: str) -> int:
    """Open a regular file below the folder of the descriptor `top`, without following links.

    Raises OSError.
    """
    folder = os.dup(top)
    try:
        *parents, name = key.split("/")
        for part in parents:
            below = os.open(part, OPEN_FOLDER, dir_fd=folder)
            os.close(folder)
            folder = below
        return os.open(name, OPEN_FILE, dir_fd=folder)
    finally:
        os.close(folder)


class OutputFile:
    """A file with some bytes appended. It can be read again from the start, until `stop` is set."""

    def __init__(self, file: BinaryIO, size: int, tail: bytes, stop: Stop) -> None:
        self._file = file
        self._size = size
        self._tail = tail
        self._stop = stop
        self._at = 0

    def read(self, size: int | None = -1) -> bytes:
        """Read up to `size` bytes. Raises StoppedError, DiskError."""
        if self._stop.is_set():
            raise StoppedError
        end = self._size + len(self._tail)
        wanted = end - self._at if size is None or size < 0 else min(size, end - self._at)
        data = b""
        if self._at < self._size:
            try:
                data = self._file.read(min(wanted, self._size - self._at))
            except OSError as error:
                raise DiskError(error) from None
        start = self._at + len(data) - self._size
        if start >= 0:
            data += self._tail[start : start + wanted - len(data)]
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        """Seek to an offset from the start; `whence` is ignored."""
        self._at = self._file.seek(offset)
        return self._at

    def close(self) -> None:
        """Close the file."""
        self._file.close()
