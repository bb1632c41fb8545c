"""The list of a job's input files as they were unpacked, to find those that the job changed.

A file counts as unchanged if it has the same name, permission bits, size and SHA-256. Times and
inode do not count: a job can write a file and set its old time again.

The list is a file beside the rundir, where no container can reach it. It needs no fsync: if a power
cut loses or damages a record, the file is uploaded.
"""

from __future__ import annotations

import hashlib
import logging
import os
import stat
import struct
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from leruli_node.errors import StoppedError
from leruli_node.files.walk import OPEN_FILE, UNREADABLE, Entry
from leruli_node.retry import Stop

log = logging.getLogger(__name__)

#: Name of the list in an attempt's folder.
INPUT_LIST = "inputs"
# Hash of the name, size in bytes, permission bits here and in run.tgz, SHA-256 of the content.
_RECORD = struct.Struct("<16sQHH32s4x")
_NAME_BYTES = 16
# The last record has no name. Its size field holds the number of records before it.
_END = bytes(_NAME_BYTES)
_READ = 2**18
_UNKNOWN, _CHANGED, _UNCHANGED = range(3)


class InputListWriter:
    """Writes the list of one input while the input is unpacked."""

    def __init__(self, path: Path) -> None:
        """Raises OSError."""
        self._file = path.open("wb")
        self._count = 0

    def add(self, name: str, facts: os.stat_result, mode: int, digest: bytes) -> None:
        """Add a file by its name below the rundir. A later one replaces it.

        `mode` is the mode in the archive. Raises OSError.
        """
        self._write(_hashed(name), facts.st_size, facts.st_mode, mode, digest)
        self._count += 1

    def finish(self) -> None:
        """Mark the list as complete; otherwise it is not used. Raises OSError."""
        self._write(_END, self._count, 0, 0, b"")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, name: bytes, size: int, mode: int, packed_mode: int, digest: bytes) -> None:
        modes = stat.S_IMODE(mode), stat.S_IMODE(packed_mode)
        self._file.write(_RECORD.pack(name, size, *modes, digest))


@contextmanager
def writing(path: Path) -> Iterator[InputListWriter]:
    """Write a list within the block. It is complete if the block ends without an exception."""
    made = InputListWriter(path)
    try:
        yield made
        made.finish()
    finally:
        made.close()


class InputList:
    """A list that was read back. It needs about 75 bytes of memory for each file."""

    def __init__(self, records: bytes = b"", count: int = 0) -> None:
        self._records = records
        # A hash table of record numbers, counted from 1. It needs a third of a dictionary's memory.
        self._table = array("I", bytes(4 << (2 * count).bit_length()))
        # The result for each record, stored because the output is walked twice.
        self._verdicts = bytearray(count)
        for number in range(count):
            self._table[self._slot(self._name(number))] = number + 1

    @classmethod
    def read(cls, path: Path) -> InputList:
        """Return the list in a file.

        An incomplete list counts as empty: then all files are uploaded.
        """
        try:
            records = path.read_bytes()
        except FileNotFoundError:
            # An older agent unpacked the input.
            return cls()
        except OSError as error:
            log.warning("the list of the input cannot be read: %s", error.strerror)
            return cls()
        end = len(records) - _RECORD.size
        if end < 0 or end % _RECORD.size:
            log.warning("the list of the input is not complete")
            return cls()
        name, count, *_ = _RECORD.unpack_from(records, end)
        if name != _END or count != end // _RECORD.size:
            log.warning("the list of the input is not complete")
            return cls()
        return cls(records, count)

    def has_unchanged(self, entry: Entry, stop: Stop) -> bool:
        """Return whether an entry of the output is an input file that the job did not change.

        Raises
        ------
        OSError
            The disk failed, not only this file.
        StoppedError
            `stop` is set.
        """
        if entry.is_link or not self._verdicts:
            return False
        number = self._number(entry.key)
        if number is None:
            return False
        if self._verdicts[number] == _UNKNOWN:
            is_unchanged = self._is_as_noted(number, entry, stop)
            self._verdicts[number] = _UNCHANGED if is_unchanged else _CHANGED
        return self._verdicts[number] == _UNCHANGED

    def _is_as_noted(self, number: int, entry: Entry, stop: Stop) -> bool:
        _, size, mode, _, digest = self._record(number)
        if (size, mode) != (entry.facts.st_size, stat.S_IMODE(entry.facts.st_mode)):
            return False
        try:
            descriptor = os.open(entry.name, OPEN_FILE, dir_fd=entry.folder)
        except OSError as error:
            if error.errno not in UNREADABLE:
                raise
            return False
        try:
            return bool(_digest(descriptor, stop) == digest)
        finally:
            os.close(descriptor)

    def original_mode(self, name: str, facts: os.stat_result) -> int:
        """Return the permission bits of a file of the output.

        An input file with the bits that unpacking set gets those of the archive.
        """
        bits = stat.S_IMODE(facts.st_mode)
        number = self._number(name)
        if number is not None:
            _, _, mode, packed_mode, _ = self._record(number)
            if bits == mode:
                return int(packed_mode)
        return bits

    def _number(self, name: str) -> int | None:
        number = self._table[self._slot(_hashed(name))] - 1
        return None if number < 0 else number

    def _record(self, number: int) -> tuple[bytes, int, int, int, bytes]:
        return _RECORD.unpack_from(self._records, number * _RECORD.size)

    def _name(self, number: int) -> bytes:
        start = number * _RECORD.size
        return self._records[start : start + _NAME_BYTES]

    def _slot(self, name: bytes) -> int:
        """Return the table slot of the record of this name, or the free slot for it."""
        size = len(self._table)
        slot = int.from_bytes(name, "little") % size
        while self._table[slot] and self._name(self._table[slot] - 1) != name:
            slot = (slot + 1) % size
        return slot


def _hashed(name: str) -> bytes:
    return hashlib.sha256(os.fsencode(name)).digest()[:_NAME_BYTES]


def _digest(descriptor: int, stop: Stop) -> bytes:
    digest = hashlib.sha256()
    while data := os.read(descriptor, _READ):
        if stop.is_set():
            raise StoppedError
        digest.update(data)
    return digest.digest()
