"""Reads what a job appends to one of its logs, from a descriptor that stays open.

The job may do anything with the file: truncate, replace, delete it, write faster than it is read.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass

from leruli_node.files.walk import OPEN_FILE, UNREADABLE

# Following begins at most so many bytes before the end of a log.
_BEGINS_BEFORE_END = 64 * 2**10
# After a skip, a piece begins with a line if one begins within so many bytes.
_LONGEST_LINE = 4096


@dataclass(frozen=True)
class Piece:
    """Some bytes of a log."""

    offset: int
    data: bytes
    # Whether the file is another one, or was cut: earlier pieces are of something else.
    begins_again: bool = False


def open_log(folder: int, name: str, since_ns: int = 0) -> tuple[int, tuple[int, int]] | None:
    """Open a log in the folder of a descriptor. Return the descriptor and the file's identity.

    None: there is no readable regular file that changed at `since_ns` or later. Raises OSError.
    """
    try:
        descriptor = os.open(name, OPEN_FILE, dir_fd=folder)
    except OSError as error:
        if error.errno not in UNREADABLE:
            raise
        return None
    facts = os.fstat(descriptor)
    if stat.S_ISREG(facts.st_mode) and facts.st_ctime_ns >= since_ns:
        return descriptor, (facts.st_dev, facts.st_ino)
    os.close(descriptor)
    return None


class Tail:
    """The end of one log. `at` is the offset up to which an earlier follower has it."""

    def __init__(self, at: int | None = None) -> None:
        self._at = at
        self._descriptor: int | None = None
        self._identity: tuple[int, int] | None = None
        self._begins_again = False
        # Whether bytes before the next piece are left out.
        self._skips = False

    def take(self, descriptor: int, identity: tuple[int, int]) -> None:
        """Read this file from now on; closes it if it is the one that is read already."""
        if identity == self._identity:
            os.close(descriptor)
            return
        if self._identity is not None:
            self._at, self._begins_again = 0, True
        self.close()
        self._descriptor, self._identity = descriptor, identity

    def waiting(self) -> int:
        """Return how many bytes can be read now."""
        if self._descriptor is None:
            return 0
        size = os.fstat(self._descriptor).st_size
        if self._at is not None and size < self._at:
            self._at, self._begins_again = 0, True
        begin = max(0, size - _BEGINS_BEFORE_END)
        if self._at is None:
            self._at, self._skips = begin, begin > 0
        return size - self._at

    def next(self, most: int) -> Piece | None:
        """Return the newest bytes that were not read yet, at most `most`; None if there are none.

        Raises OSError.
        """
        waiting = self.waiting()
        if self._descriptor is None or self._at is None or not waiting or most <= 0:
            return None
        skipped = max(0, waiting - most)
        offset = self._at + skipped
        data = os.pread(self._descriptor, waiting - skipped, offset)
        if not data:
            return None
        if skipped or self._skips:
            cut = data.find(b"\n", 0, _LONGEST_LINE) + 1
            if cut < len(data):
                offset, data = offset + cut, data[cut:]
        piece = Piece(offset, data, self._begins_again)
        self._at, self._skips, self._begins_again = offset + len(data), False, False
        return piece

    def close(self) -> None:
        """Close the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = self._identity = None
