"""The remainder of an output that cannot be objects: one tar archive, made while it is read."""

from __future__ import annotations

import os
import stat
import tarfile
import zlib
from collections.abc import Callable, Iterator

from leruli_node.errors import StoppedError
from leruli_node.files.walk import Entry, Skipped, shown
from leruli_node.retry import Stop

NAME = "leruli-more.tar.gz"
_OTHER_NAME = "leruli-more-{}.tar.gz"
_COPY = 2**18
_GZIP = 31


class DiskError(Exception):
    """An OSError of the disk. It is wrapped so that it is not taken for a network error."""

    def __init__(self, cause: OSError) -> None:
        super().__init__(cause.strerror)
        self.cause = cause


def free_name(top: int) -> str:
    """Return a name for the archive that no file of the output in `top` has."""
    number = 1
    while True:
        name = NAME if number == 1 else _OTHER_NAME.format(number)
        try:
            os.stat(name, dir_fd=top, follow_symlinks=False)
        except FileNotFoundError:
            return name
        number += 1


class Remainder:
    """The archive as a file-like object that can be read once.

    Links are stored as links; owners are not stored. Entries are packed in the order of the walk.

    Parameters
    ----------
    entries
        Yields the entries of the output, and notes those that it skips.
    reason
        Returns why an entry belongs in the archive, None if it does not.
    most_entries, most_bytes
        How much is packed at most.
    stop
        Ends the reading.

    Attributes
    ----------
    packed, skipped
        What was packed and what was not, by reason.
    size
        Bytes of the archive read so far.
    """

    def __init__(
        self,
        entries: Callable[[Skipped], Iterator[Entry]],
        reason: Callable[[Entry], str | None],
        most_entries: int,
        most_bytes: int,
        stop: Stop,
    ) -> None:
        self.packed = Skipped()
        self.skipped = Skipped()
        self.size = 0
        self._entries = most_entries
        self._bytes = most_bytes
        self._beyond = f"files beyond the {most_bytes // 2**20} MB that were left of a job's output"
        self._stop = stop
        self._pieces = self._compressed(self._tar(entries(self.skipped), reason))
        self._rest = b""

    def read(self, size: int = -1) -> bytes:
        """Read up to `size` bytes. Raises StoppedError, DiskError."""
        if self._stop.is_set():
            raise StoppedError
        while not self._rest:
            try:
                self._rest = next(self._pieces, b"")
            except OSError as error:
                raise DiskError(error) from None
            if not self._rest:
                return b""
        part = self._rest if size < 0 else self._rest[:size]
        self._rest = self._rest[len(part) :]
        self.size += len(part)
        return part

    def close(self) -> None:
        """Close the files that are open."""
        self._pieces.close()  # type: ignore[attr-defined]

    def _compressed(self, raw: Iterator[bytes]) -> Iterator[bytes]:
        gzip = zlib.compressobj(1, zlib.DEFLATED, _GZIP)
        for piece in raw:
            if self._stop.is_set():
                raise StoppedError
            data = gzip.compress(piece)
            if data:
                yield data
        yield gzip.flush()

    def _tar(
        self, entries: Iterator[Entry], reason: Callable[[Entry], str | None]
    ) -> Iterator[bytes]:
        for entry in entries:
            if self._stop.is_set():
                raise StoppedError
            why = reason(entry)
            if why is None:
                continue
            if self._entries <= 0:
                self.skipped.add(f"{why}, for which there was no room", shown(entry.key))
            elif entry.is_link:
                yield from self._link(entry, why)
            else:
                yield from self._file(entry, why)
        yield b"\0" * (2 * tarfile.BLOCKSIZE)

    def _link(self, entry: Entry, why: str) -> Iterator[bytes]:
        member = _member(entry, tarfile.SYMTYPE)
        member.linkname = os.readlink(entry.name, dir_fd=entry.folder)
        self._note(entry, why)
        yield _header(member)

    def _file(self, entry: Entry, why: str) -> Iterator[bytes]:
        if entry.facts.st_size > self._bytes:
            self.skipped.add(self._beyond, shown(entry.key))
            return
        descriptor = entry.open(self.skipped)
        if descriptor is None:
            return
        try:
            member = _member(entry, tarfile.REGTYPE)
            left = member.size = os.fstat(descriptor).st_size
            self._bytes -= left
            self._note(entry, why)
            yield _header(member)
            while left > 0:
                data = os.read(descriptor, min(_COPY, left))
                # A file that became shorter is padded.
                data = data or b"\0" * min(_COPY, left)
                left -= len(data)
                yield data
            yield b"\0" * (-member.size % tarfile.BLOCKSIZE)
        finally:
            os.close(descriptor)

    def _note(self, entry: Entry, why: str) -> None:
        self._entries -= 1
        self.packed.add(why, shown(entry.key))


def _member(entry: Entry, kind: bytes) -> tarfile.TarInfo:
    member = tarfile.TarInfo(entry.key)
    member.type = kind
    member.mode = stat.S_IMODE(entry.facts.st_mode) & 0o777
    member.mtime = max(0, int(entry.facts.st_mtime))
    return member


def _header(member: tarfile.TarInfo) -> bytes:
    # Names are plain bytes in this format, in any encoding.
    return member.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
