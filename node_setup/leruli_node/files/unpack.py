"""Unpacks run.tgz, which anybody of the group may have written, into a job's folder.

Constants of this file bound the memory, whatever the archive contains (docs/nodes/agent.md,
"Input").
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
# Bytes of the headers of one entry (long names, pax), which tarfile reads into memory as a whole.
_MOST_HEADERS = 2**18
# The same, as a mean over all allowed entries: headers cost time even if they are discarded.
_MEAN_HEADERS = 3 * tarfile.BLOCKSIZE
# Nested folders: each costs an inode and is walked when the job has ended.
DEEPEST = 100
# tarfile's private exceptions at the end of the archive.
_END = ("EmptyHeaderError", "EOFHeaderError")
_LONG_HEADERS = "the input cannot be unpacked: its headers are too long"


class BrokenInputError(Exception):
    """The archive cannot be used. The text says why, for a person."""


class InputTooLargeError(BrokenInputError):
    """The unpacked content is larger than allowed."""


@dataclass(frozen=True)
class InputLimits:
    """The limits of one input: files and folders together, and bytes."""

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

    Whatever the archive says, folders get mode 0777 and files 0666 (0777 if an x is set), so that
    any user in the container can work with them. A later entry replaces an earlier one of the same
    name: the client appends run.sh to the content of the folder. Each file is added to the list
    `files`.

    Raises
    ------
    BrokenInputError
        The archive is not of this kind, or exceeds the limits.
    OSError
        The disk failed.
    StoppedError
        `stop` is set.
    Exception
        Errors of `chunks`.
    """
    rundir.mkdir()
    rundir.chmod(0o777)
    try:
        _Unpacking(chunks, rundir, limits, stop, files).run()
    except (tarfile.TarError, GunzipError, EOFError, ValueError, RecursionError) as error:
        # The text may quote any part of the archive.
        raise BrokenInputError(f"the input cannot be unpacked: {_shown(str(error))}") from None
    except OSError as error:
        # The archive is the cause if a name is too long or a file and a folder have the same name.
        faults = (errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY)
        if error.errno in faults or error.errno is None:
            why = error.strerror or str(error)
            raise BrokenInputError(f"the input cannot be unpacked: {why}") from None
        raise
    if not stat.S_ISREG(_mode(rundir / "run.sh")):
        raise BrokenInputError("the input has no run.sh")


class _Unpacking:
    """Unpacks one archive into one folder."""

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
                # tarfile keeps all members with their headers.
                archive.members.clear()  # type: ignore[attr-defined]
                self._reader.allow(_MOST_HEADERS)

    def _take(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        parts = _checked_name(member.name)
        if member.isdir():
            before = self._files
            self._make_folders(parts)
            # A folder that existed counts as well: each entry costs time.
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
            # No link can exist here: none is ever made, and no other process uses the folder yet.
            if not stat.S_ISDIR(_mode(folder)):
                self._count(1)
                folder.mkdir()
                folder.chmod(0o777)
        return folder


class _BoundedReader(GunzipReader):
    """Reads as many bytes as allowed, from a bounded number of compressed ones."""

    def __init__(self, chunks: Iterator[bytes], limits: InputLimits, stop: Stop) -> None:
        super().__init__(chunks, stop)
        self._megabytes = limits.bytes // 2**20
        # Incompressible data becomes a little larger.
        self._most_compressed = (
            limits.bytes + limits.bytes // 64 + limits.files * _MEAN_HEADERS + 2**20
        )
        self._allowed = 0

    def allow(self, size: int) -> None:
        """Allow `size` more bytes, plus tarfile's read-ahead and block padding."""
        self._allowed = self.delivered + size + 2 * _READ

    def read(self, size: int) -> bytes:
        """Read like GunzipReader. Raises BrokenInputError for more bytes than allowed."""
        data = super().read(size)
        if self.delivered > self._allowed:
            raise BrokenInputError(_LONG_HEADERS)
        return data

    def _piece(self) -> bytes:
        # Checked here: a stream may go on for ever without giving a byte to `read`.
        piece = super()._piece()
        if self.compressed > self._most_compressed:
            raise InputTooLargeError(f"the input has more than {self._megabytes} MB")
        return piece


def _bounded_entry(files: int) -> type[tarfile.TarInfo]:
    """Return a TarInfo class for one archive that bounds the headers that tarfile reads.

    Headers before a file are held until the file's own header comes, global ones until the end.
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
                # tarfile itself takes this for the end of the archive, and would drop the rest.
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
    """Write a file. Return its stat result and the SHA-256 of its content."""
    path.unlink(missing_ok=True)
    source = archive.extractfile(member)
    if source is None:  # pragma: no cover - only members that are no files
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
        # The file system may be unable to store this time; then the present time stays.
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
