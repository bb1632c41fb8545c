"""Unpacking run.tgz, which anybody of the group may have written, into a job's own folder."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from leruli_node.errors import Interrupted
from leruli_node.retry import Stop

_COPY = 2**20
_REGULAR = (tarfile.REGTYPE, tarfile.AREGTYPE)
# Long names and pax headers, which tarfile reads whole into memory; in bytes.
_MOST_HEADERS = 2**20


class BrokenInput(Exception):
    """The archive is not one that is unpacked; the text says why, for a person."""


class TooLarge(BrokenInput):
    """What is unpacked is more than was allowed."""


class ChunkReader:
    """A file-like object over an iterator of bytes."""

    def __init__(self, chunks: Iterator[bytes], stop: Stop) -> None:
        self._chunks = chunks
        self._stop = stop
        self._rest = b""

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; fewer only at the end. Interrupted when to stop."""
        parts, missing = [], size
        while missing > 0:
            if not self._rest:
                if self._stop.is_set():
                    raise Interrupted
                self._rest = next(self._chunks, b"")
                if not self._rest:
                    break
            part, self._rest = self._rest[:missing], self._rest[missing:]
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)


def unpack(
    chunks: Iterator[bytes], rundir: Path, max_files: int, max_bytes: int, stop: Stop
) -> None:
    """Unpack a gzip tar into the new folder `rundir`: regular files and folders only.

    Whatever the archive says, folders get mode 0777 and files 0666 (0777 where it has an x), so
    that any user in the container can work with them. A later entry replaces an earlier one of
    the same name (the client appends run.sh to what the folder had).

    Raises BrokenInput for anything that is not such an archive or is too much, OSError when the
    disk fails, Interrupted, and what `chunks` raises.
    """
    rundir.mkdir()
    rundir.chmod(0o777)
    count = total = 0
    reader = cast(BinaryIO, ChunkReader(chunks, stop))
    try:
        with tarfile.open(fileobj=reader, mode="r|gz", tarinfo=_bounded_entry()) as archive:
            for member in archive:
                parts = _checked_name(member.name)
                count += 1
                if count > max_files:
                    raise BrokenInput(f"the input has more than {max_files} files")
                if member.isdir():
                    _make_folders(rundir, parts)
                    continue
                if member.type not in _REGULAR or member.issparse():
                    raise BrokenInput(
                        f"the input has {_kind(member)} ({_shown(member.name)}); "
                        f"only files and folders can be sent"
                    )
                if not parts:
                    raise BrokenInput("the input has a file without a name")
                total += member.size
                if total > max_bytes:
                    raise TooLarge(f"the input has more than {max_bytes // 2**20} MB")
                _write(archive, member, rundir, parts)
    except (tarfile.TarError, EOFError, zlib.error, ValueError, RecursionError) as error:
        raise BrokenInput(f"the input cannot be unpacked: {error}") from None
    except OSError as error:
        # Names that are too long, or a file and a folder of one name, are the archive's fault.
        faults = (errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY)
        if error.errno in faults or error.errno is None:
            why = error.strerror or str(error)
            raise BrokenInput(f"the input cannot be unpacked: {why}") from None
        raise
    if not stat.S_ISREG(_mode(rundir / "run.sh")):
        raise BrokenInput("the input has no run.sh")


def _bounded_entry() -> type[tarfile.TarInfo]:
    """A TarInfo for one archive that bounds what tarfile holds in memory of headers.

    Headers before a file are held until the file's own comes, global ones for ever.
    """

    class Entry(tarfile.TarInfo):
        held = lasting = 0

        @classmethod
        def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Entry:
            entry = super().frombuf(buf, encoding, errors)
            if entry.size < 0:
                raise BrokenInput("the input cannot be unpacked: a size is negative")
            if entry.type in (*_REGULAR, tarfile.DIRTYPE):
                cls.held = cls.lasting
            else:
                cls.held += entry.size
                if entry.type == tarfile.XGLTYPE:
                    cls.lasting += entry.size
                if cls.held > _MOST_HEADERS:
                    raise BrokenInput("the input cannot be unpacked: its headers are too long")
            return entry

    return Entry


def _checked_name(name: str) -> list[str]:
    if name.startswith("/"):
        raise BrokenInput(f"the input has an absolute name: {_shown(name)}")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise BrokenInput(f"the input has a name with '..': {_shown(name)}")
    if "\0" in name:
        raise BrokenInput("the input has a name with a zero byte")
    return parts


def _make_folders(rundir: Path, parts: list[str]) -> Path:
    folder = rundir
    for part in parts:
        folder = folder / part
        # No link can be in the way: none is ever made here, and nobody else works here yet.
        if not stat.S_ISDIR(_mode(folder)):
            folder.mkdir()
            folder.chmod(0o777)
    return folder


def _write(
    archive: tarfile.TarFile, member: tarfile.TarInfo, rundir: Path, parts: list[str]
) -> None:
    path = _make_folders(rundir, parts[:-1]) / parts[-1]
    path.unlink(missing_ok=True)
    source = archive.extractfile(member)
    if source is None:  # pragma: no cover - only for members that are no files
        raise BrokenInput("the input cannot be unpacked")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
        shutil.copyfileobj(source, file, _COPY)
        if file.tell() != member.size:
            raise BrokenInput("the input cannot be unpacked: it ends too early")
        file.flush()
        os.fchmod(file.fileno(), 0o777 if member.mode & 0o111 else 0o666)
        # A time that the file system cannot hold: the present one does.
        with contextlib.suppress(OverflowError, ValueError, OSError):
            os.utime(file.fileno(), (member.mtime, member.mtime))


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
