"""Putting a job folder into run.tgz.

The archive is a gzip tar: run.sh first, then every file and folder as ./path in the order of their
names. The same folder gives the same bytes. The archive holds files and folders only. In the place
of a link it holds the target, which must be in the folder. Anything else is refused before a byte
is written.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import stat
import tarfile
import zlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import IO, NamedTuple

from leruli.errors import RefusedError
from leruli.folder.job_folder import (
    BUCKET_FILE,
    HISTORY,
    JOB_FILE,
    JOURNAL_PREFIX,
    LIVE_PREFIX,
    PART_PREFIX,
    RECORD_FILE,
    RESERVED,
)
from leruli.folder.record import FileState

# Compresses text nearly as well as level 6, in half the time.
_LEVEL = 4

# The `wbits` with which zlib writes the gzip format.
_GZIP = 16 + zlib.MAX_WBITS

# Bytes per read, and bytes of tar per call of zlib.
_BLOCK = 256 * 1024

_OWN = frozenset({JOB_FILE, BUCKET_FILE, RECORD_FILE, HISTORY})

# An older client fetches live output as if it were results.
_LIVE = LIVE_PREFIX.rstrip("/")

_KINDS = {
    stat.S_IFSOCK: "a socket",
    stat.S_IFIFO: "a pipe",
    stat.S_IFBLK: "a device",
    stat.S_IFCHR: "a device",
}


class Entry(NamedTuple):
    """A file or folder to pack."""

    name: str  #: relative to the job folder, with / between the parts
    path: str  #: where to read it
    is_folder: bool
    mode: int
    size: int  #: bytes, 0 for a folder
    mtime_ns: int  #: nanoseconds since 1970

    @property
    def mtime(self) -> int:
        """Whole seconds since 1970, as the tar has them."""
        return self.mtime_ns // 1_000_000_000


@dataclass
class Inventory:
    """The checked content of a job folder."""

    entries: list[Entry] = field(default_factory=list)
    total_bytes: int = 0


def run_script(command: str) -> bytes:
    """Return run.sh for a command: one or more lines of bash. Raises RefusedError."""
    if not command.strip():
        raise RefusedError(
            "The command is empty. Name the program to run, for instance: psi4 input.dat"
        )
    if "\0" in command:
        raise RefusedError("The command holds a NUL character, which no shell can run.")
    # Arguments that are not UTF-8 keep their bytes.
    return f"#!/bin/bash\n{command}\n".encode("utf-8", "surrogateescape")


def take_inventory(
    directory: str, leave_out: Collection[str] = (), made: Collection[str] = ()
) -> Inventory:
    """List the files and folders to pack. Raises RefusedError if one cannot be packed.

    Names in `leave_out` are skipped, and folders in `made` that hold nothing else.
    """
    inventory = Inventory()
    try:
        entries = _walk(directory, leave_out)
        if made:
            entries = _without_emptied(list(entries), made)
        for entry in entries:
            inventory.entries.append(entry)
            inventory.total_bytes += entry.size
    except OSError as error:
        raise RefusedError(
            f"Cannot read {error.filename or directory}: {error.strerror}."
        ) from error
    return inventory


def write_archive(
    inventory: Inventory,
    command: str,
    sink: IO[bytes],
    advance: Callable[[int], None] = lambda _: None,
) -> dict[str, FileState]:
    """Write run.tgz to `sink` and return the state of each file.

    `advance` gets the number of bytes of input after each read. Raises RefusedError for a file that
    changed or cannot be read. Errors of `sink` are passed on.
    """
    states: dict[str, FileState] = {}
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
    waiting: list[bytes] = []
    size = total = 0
    for piece in _members(inventory, command, advance, states):
        waiting.append(piece)
        size += len(piece)
        total += len(piece)
        if size >= _BLOCK:
            sink.write(packer.compress(b"".join(waiting)))
            waiting, size = [], 0
    # A tar ends with two blocks of zeros and is padded to whole records.
    waiting.append(_padding(total + 2 * tarfile.BLOCKSIZE, tarfile.RECORDSIZE))
    waiting.append(bytes(2 * tarfile.BLOCKSIZE))
    sink.write(packer.compress(b"".join(waiting)) + packer.flush())
    return states


def _members(
    inventory: Inventory,
    command: str,
    advance: Callable[[int], None],
    states: dict[str, FileState],
) -> Iterator[bytes]:
    """Yield run.sh and every entry in the format of a tar, in pieces of any size.

    Only the headers come from tarfile. The rest of a tar is content and zeros. For small files
    tarfile takes longer to put these together than reading and compressing them takes.
    """
    script = run_script(command)
    yield _header("./run.sh", 0o755, 0, tarfile.REGTYPE, len(script))
    yield script
    yield _padding(len(script), tarfile.BLOCKSIZE)
    for entry in inventory.entries:
        kind = tarfile.DIRTYPE if entry.is_folder else tarfile.REGTYPE
        yield _header("./" + entry.name, entry.mode, entry.mtime, kind, entry.size)
        if not entry.is_folder:
            digest = hashlib.sha256()
            yield from _content(entry, advance, digest)
            states[entry.name] = FileState(entry.size, entry.mtime_ns, digest.hexdigest())
            yield _padding(entry.size, tarfile.BLOCKSIZE)


# The folders of a batch share headers, such as that of run.sh.
@functools.lru_cache(maxsize=1024)
def _header(name: str, mode: int, mtime: int, kind: bytes, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.mode, info.mtime, info.type, info.size = mode, mtime, kind, size
    if name.isascii():
        # USTAR suffices for most files and takes a third of the time.
        with contextlib.suppress(ValueError):  # the name is too long or a number too large
            return info.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict")
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _padding(size: int, block: int) -> bytes:
    """Return the zeros that follow `size` bytes up to a whole number of blocks."""
    return bytes(-size % block)


def _content(
    entry: Entry, advance: Callable[[int], None], digest: hashlib._Hash
) -> Iterator[bytes]:
    """Yield the content of a file. Raises RefusedError with its name if it cannot be read."""
    try:
        descriptor = os.open(entry.path, os.O_RDONLY)
        try:
            left = entry.size
            while left > 0:
                data = os.read(descriptor, min(left, _BLOCK))
                if not data:
                    raise _changed(entry)
                left -= len(data)
                digest.update(data)
                advance(len(data))
                yield data
            now = os.fstat(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise RefusedError(
            f"Cannot read {entry.path}: {error.strerror}. The folder was not submitted."
        ) from error
    if now.st_size != entry.size or now.st_mtime_ns // 1_000_000_000 != entry.mtime:
        raise _changed(entry)


def _changed(entry: Entry) -> RefusedError:
    return RefusedError(
        f"{entry.path} changed while it was being packed. The folder was not submitted: wait until "
        "nothing writes into the folder, then submit again."
    )


class _Pending(NamedTuple):
    """A folder that must still be listed."""

    path: str
    prefix: str
    trail: tuple[str, ...]  #: real paths of the folders above, to find links in a circle


def _without_emptied(entries: list[Entry], emptied: Collection[str]) -> Iterator[Entry]:
    """Yield the entries without the folders in `emptied` that hold no other entry."""
    needed = set()
    kept = []
    for entry in reversed(entries):  # the content of a folder comes after it
        if entry.is_folder and entry.name in emptied and entry.name not in needed:
            continue
        needed.add(entry.name.rpartition("/")[0])
        kept.append(entry)
    return reversed(kept)


def _walk(directory: str, leave_out: Collection[str]) -> Iterator[Entry]:
    root = os.path.realpath(directory)
    stack: list[_Pending | Entry] = [_Pending(directory, "", (root,))]
    while stack:
        top = stack.pop()
        if isinstance(top, Entry):
            yield top
            continue
        with os.scandir(top.path) as listing:
            items = sorted(listing, key=lambda item: item.name, reverse=True)
        for item in items:
            if item.name.startswith(PART_PREFIX) or (not top.prefix and _is_own(item.name)):
                continue
            if top.prefix + item.name == _LIVE or top.prefix + item.name in leave_out:
                continue
            if not top.prefix and item.name in RESERVED:
                raise RefusedError(
                    f"{item.path} has a reserved name: {', '.join(sorted(RESERVED))} are made by "
                    "the queue. Rename or delete it, then submit again. The folder was not "
                    "submitted."
                )
            if item.is_symlink():
                real = _resolve(item.path, root, top.trail)
            else:
                real = f"{top.trail[-1]}/{item.name}"
            entry = _describe(item, top.prefix + item.name)
            if entry.is_folder:
                stack.append(_Pending(item.path, entry.name + "/", (*top.trail, real)))
            stack.append(entry)


def _is_own(name: str) -> bool:
    return name in _OWN or name.startswith(JOURNAL_PREFIX)


def _describe(item: os.DirEntry[str], name: str) -> Entry:
    found = item.stat()  # of the target of a link
    kind = stat.S_IFMT(found.st_mode)
    if kind not in (stat.S_IFREG, stat.S_IFDIR):
        raise RefusedError(
            f"{item.path} is {_KINDS.get(kind, 'neither a file nor a folder')} and cannot be sent. "
            "Remove it, then submit again. The folder was not submitted."
        )
    is_folder = kind == stat.S_IFDIR
    return Entry(
        name=name,
        path=item.path,
        is_folder=is_folder,
        mode=found.st_mode & 0o777,
        size=0 if is_folder else found.st_size,
        mtime_ns=found.st_mtime_ns,
    )


def _resolve(path: str, root: str, trail: tuple[str, ...]) -> str:
    """Return the real path of a link's target; raises RefusedError if it may not be followed."""
    real = os.path.realpath(path)
    if not os.path.lexists(real):
        problem = "points at nothing"
    elif os.path.commonpath((root, real)) != root:
        problem = "leads out of the folder"
    elif real in trail:
        problem = "leads back to a folder that holds it"
    else:
        return real
    raise RefusedError(
        f"{path} is a link that {problem}. Replace it by a file or a folder, or remove it, then "
        "submit again. The folder was not submitted."
    )
