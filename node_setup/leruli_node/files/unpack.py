"""Unpacking run.tgz, which anybody of the group may have written, into a job's own folder.

Memory is bounded by the constants here, whatever the archive holds (docs/nodes/agent.md, "Input").
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from leruli_node.files.gunzip import GunzipError, GunzipReader
from leruli_node.files.input_list import InputListWriter
from leruli_node.retry import Stop

_COPY = 2**18
_READ = 2**16
_REGULAR = (tarfile.REGTYPE, tarfile.AREGTYPE)
# The headers of one entry (long names, pax), which tarfile reads whole into memory; in bytes.
_MOST_HEADERS = 2**18
# The same on the average of all entries that are allowed: they cost time even where they are
# forgotten at once.
_MEAN_HEADERS = 3 * tarfile.BLOCKSIZE
# Folders in folders: each costs an inode and is walked when the job has ended.
DEEPEST = 100
# tarfile's words for the end of the archive; they are no part of its interface.
_END = ("EmptyHeaderError", "EOFHeaderError")
_LONG_HEADERS = "the input cannot be unpacked: its headers are too long"


class BrokenInputError(Exception):
    """The archive is not one that is unpacked; the text says why, for a person."""


class InputTooLargeError(BrokenInputError):
    """What is unpacked is more than was allowed."""


@dataclass(frozen=True)
class InputLimits:
    """What one input may hold: files and folders together, and bytes."""

    files: int
    bytes: int


def unpack(
    chunks: Iterator[bytes],
    rundir: Path,
    limits: InputLimits,
    stop: Stop,
    files: InputListWriter | None = None,
) -> None:
    """Unpack a gzip tar into the new folder `rundir`: regular files and folders only.

    Each file is noted in the list `files`.

    Whatever the archive says, folders get mode 0777 and files 0666 (0777 where it has an x), so
    that any user in the container can work with them. A later entry replaces an earlier one of
    the same name (the client appends run.sh to what the folder had).

    Raises BrokenInputError for anything that is not such an archive or is too much, OSError when
    the disk fails, StoppedError, and what `chunks` raises.
    """
    rundir.mkdir()
    rundir.chmod(0o777)
    try:
        _Unpacking(chunks, rundir, limits, stop, files).run()
    except (tarfile.TarError, GunzipError, EOFError, ValueError, RecursionError) as error:
        # It may quote what stands in the archive, whole.
        raise BrokenInputError(f"the input cannot be unpacked: {_shown(str(error))}") from None
    except OSError as error:
        # Names that are too long, or a file and a folder of one name, are the archive's fault.
        faults = (errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY)
        if error.errno in faults or error.errno is None:
            why = error.strerror or str(error)
            raise BrokenInputError(f"the input cannot be unpacked: {why}") from None
        raise
    if not stat.S_ISREG(_mode(rundir / "run.sh")):
        raise BrokenInputError("the input has no run.sh")


class _Unpacking:
    """One archive on its way into one folder."""

    def __init__(
        self,
        chunks: Iterator[bytes],
        rundir: Path,
        limits: InputLimits,
        stop: Stop,
        noted: InputListWriter | None,
    ) -> None:
        self._reader = _BoundedReader(chunks, limits, stop)
        self._rundir = rundir
        self._limits = limits
        self._noted = noted
        self._files = self._bytes = 0

    def run(self) -> None:
        self._reader.allow(_MOST_HEADERS)
        with tarfile.open(
            fileobj=cast(BinaryIO, self._reader),
            mode="r|",
            bufsize=_READ,
            tarinfo=_bounded_entry(self._limits.files),
        ) as archive:
            while True:
                member = archive.next()
                if member is None:
                    return
                self._take(archive, member)
                # tarfile keeps all of them, with their headers.
                archive.members.clear()  # type: ignore[attr-defined]
                self._reader.allow(_MOST_HEADERS)

    def _take(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        parts = _checked_name(member.name)
        if member.isdir():
            before = self._files
            self._make_folders(parts)
            # One that was there counts as well: each entry costs time.
            self._count(int(self._files == before))
            return
        self._count(1)
        if member.type not in _REGULAR or member.issparse():
            raise BrokenInputError(
                f"the input has {_kind(member)} ({_shown(member.name)}); "
                f"only files and folders can be sent"
            )
        if not parts:
            raise BrokenInputError("the input has a file without a name")
        self._bytes += member.size
        if self._bytes > self._limits.bytes:
            raise InputTooLargeError(f"the input has more than {self._limits.bytes // 2**20} MB")
        folder = self._make_folders(parts[:-1])
        self._reader.allow(member.size)
        facts, digest = _write(archive, member, folder / parts[-1])
        if self._noted is not None:
            self._noted.add("/".join(parts), facts, member.mode, digest)

    def _count(self, files: int) -> None:
        self._files += files
        if self._files > self._limits.files:
            raise BrokenInputError(f"the input has more than {self._limits.files} files")

    def _make_folders(self, parts: list[str]) -> Path:
        folder = self._rundir
        for part in parts:
            folder = folder / part
            # No link can be in the way: none is ever made here, and nobody else works here yet.
            if not stat.S_ISDIR(_mode(folder)):
                self._count(1)
                folder.mkdir()
                folder.chmod(0o777)
        return folder


class _BoundedReader(GunzipReader):
    """The archive's bytes, as many as were allowed, from not too many compressed ones."""

    def __init__(self, chunks: Iterator[bytes], limits: InputLimits, stop: Stop) -> None:
        super().__init__(chunks, stop)
        self._megabytes = limits.bytes // 2**20
        # What cannot be compressed becomes a little larger.
        self._most_compressed = (
            limits.bytes + limits.bytes // 64 + limits.files * _MEAN_HEADERS + 2**20
        )
        self._allowed = 0

    def allow(self, size: int) -> None:
        """Allow to read `size` bytes more, and what tarfile reads ahead and fills blocks with."""
        self._allowed = self.delivered + size + 2 * _READ

    def read(self, size: int) -> bytes:
        """As GunzipReader.read. Raises BrokenInputError for more than was allowed."""
        data = super().read(size)
        if self.delivered > self._allowed:
            raise BrokenInputError(_LONG_HEADERS)
        return data

    def _piece(self) -> bytes:
        # Here, as a stream may go on for ever without giving a byte to `read`.
        piece = super()._piece()
        if self.compressed > self._most_compressed:
            raise InputTooLargeError(f"the input has more than {self._megabytes} MB")
        return piece


def _bounded_entry(files: int) -> type[tarfile.TarInfo]:
    """A TarInfo for one archive of so many files that bounds what tarfile reads of headers.

    Headers before a file are held until the file's own comes, global ones for ever.
    """
    most = _MOST_HEADERS + files * _MEAN_HEADERS

    class Entry(tarfile.TarInfo):
        held = lasting = total = 0

        @classmethod
        def fromtarfile(cls, archive: tarfile.TarFile) -> Entry:
            try:
                return super().fromtarfile(archive)
            except tarfile.HeaderError as error:
                if type(error).__name__ in _END:
                    raise
                # tarfile itself takes this for the end, and what follows would be missing.
                raise BrokenInputError(f"the input cannot be unpacked: {error}") from None

        @classmethod
        def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Entry:
            entry = super().frombuf(buf, encoding, errors)
            if entry.size < 0:
                raise BrokenInputError("the input cannot be unpacked: a size is negative")
            if entry.type in (*_REGULAR, tarfile.DIRTYPE):
                cls.held = cls.lasting
                return entry
            size = tarfile.BLOCKSIZE + entry.size
            cls.held += size
            cls.total += size
            if entry.type == tarfile.XGLTYPE:
                cls.lasting += size
            if cls.held > _MOST_HEADERS or cls.total > most:
                raise BrokenInputError(_LONG_HEADERS)
            return entry

    return Entry


def _checked_name(name: str) -> list[str]:
    if name.startswith("/"):
        raise BrokenInputError(f"the input has an absolute name: {_shown(name)}")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise BrokenInputError(f"the input has a name with '..': {_shown(name)}")
    if "\0" in name:
        raise BrokenInputError("the input has a name with a zero byte")
    if len(parts) > DEEPEST + 1:
        raise BrokenInputError(f"the input has more than {DEEPEST} folders in each other")
    return parts


def _write(
    archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path
) -> tuple[os.stat_result, bytes]:
    """Write a file; what it became, and the SHA-256 of its content."""
    path.unlink(missing_ok=True)
    source = archive.extractfile(member)
    if source is None:  # pragma: no cover - only for members that are no files
        raise BrokenInputError("the input cannot be unpacked")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
        digest = hashlib.sha256()
        while data := source.read(_COPY):
            digest.update(data)
            file.write(data)
        if file.tell() != member.size:
            raise BrokenInputError("the input cannot be unpacked: it ends too early")
        file.flush()
        os.fchmod(file.fileno(), 0o777 if member.mode & 0o111 else 0o666)
        # A time that the file system cannot hold: the present one does.
        with contextlib.suppress(OverflowError, ValueError, OSError):
            os.utime(file.fileno(), (member.mtime, member.mtime))
        return os.fstat(file.fileno()), digest.digest()


def _mode(path: Path) -> int:
    try:
        return path.lstat().st_mode
    except FileNotFoundError:
        return 0


def _kind(member: tarfile.TarInfo) -> str:
    if member.issym() or member.islnk():
        return "a link"
    if member.isdev():
        return "a device or pipe"
    return "something that is not a file"


def _shown(name: str) -> str:
    return name.encode("utf-8", "replace").decode()[:100]
