"""Putting a job folder into run.tgz.

The archive is a gzip tar: run.sh first, then every file and folder as ./path in the order of their
names. The same folder gives the same bytes. It holds files and folders only: what a link inside
the folder points at is stored in the link's place, and anything that cannot be stored so is
refused before a byte is written.
"""

from __future__ import annotations

import gzip
import io
import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NamedTuple

from leruli.errors import RefusedError
from leruli.jobfolder import (
    BUCKET_FILE,
    HISTORY,
    JOB_FILE,
    JOURNAL_PREFIX,
    PART_PREFIX,
    RESERVED,
)

# Text compresses nearly as well as at 6, in half the time.
_LEVEL = 4

# Bytes moved at once.
_BLOCK = 256 * 1024

_OWN = frozenset({JOB_FILE, BUCKET_FILE, HISTORY})

_KINDS = {
    stat.S_IFSOCK: "a socket",
    stat.S_IFIFO: "a pipe",
    stat.S_IFBLK: "a device",
    stat.S_IFCHR: "a device",
}


class Entry(NamedTuple):
    """One file or folder to be packed."""

    name: str  #: relative to the job folder, with / between the parts
    path: str  #: where to read it
    is_folder: bool
    mode: int
    size: int  #: bytes, 0 for a folder
    mtime: int  #: seconds since 1970


@dataclass
class Inventory:
    """What is in a job folder, checked."""

    entries: list[Entry] = field(default_factory=list)
    total_bytes: int = 0


def run_script(command: str) -> bytes:
    """run.sh for a command (one line or several of bash)."""
    if not command.strip():
        raise RefusedError(
            "The command is empty. Name the program to run, for instance: psi4 input.dat"
        )
    if "\0" in command:
        raise RefusedError("The command holds a NUL character, which no shell can run.")
    # An argument that was not UTF-8 when the shell passed it on leaves as the same bytes.
    return f"#!/bin/bash\n{command}\n".encode("utf-8", "surrogateescape")


def take_inventory(directory: str) -> Inventory:
    """List what is to be packed; raises RefusedError for what cannot be."""
    inventory = Inventory()
    try:
        for entry in _walk(directory):
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
) -> None:
    """Write run.tgz to `sink`; `advance` is told the bytes of input as they are read.

    Raises RefusedError for a file that changed or cannot be read; errors of `sink` pass.
    """
    script = run_script(command)
    with (
        gzip.GzipFile("", "wb", _LEVEL, sink, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w|", bufsize=_BLOCK, format=tarfile.PAX_FORMAT) as tar,
    ):
        head = tarfile.TarInfo("./run.sh")
        head.size, head.mode = len(script), 0o755
        tar.addfile(head, io.BytesIO(script))
        for entry in inventory.entries:
            info = tarfile.TarInfo("./" + entry.name)
            info.mode, info.mtime = entry.mode, entry.mtime
            if entry.is_folder:
                info.type = tarfile.DIRTYPE
                tar.addfile(info)
            else:
                info.size = entry.size
                with _InputFile(entry, advance) as file:
                    tar.addfile(info, file)
                    file.check_unchanged()


class _InputFile(io.RawIOBase):
    """A file of the job, whose every trouble is reported with its name.

    So that an OSError that leaves `write_archive` can only come from the sink.
    """

    def __init__(self, entry: Entry, advance: Callable[[int], None]) -> None:
        self._entry = entry
        self._advance = advance
        try:
            self._file = Path(entry.path).open("rb", buffering=0)  # noqa: SIM115
        except OSError as error:
            raise self._unreadable(error) from error

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        try:
            data = self._file.read(size)
        except OSError as error:
            raise self._unreadable(error) from error
        if len(data) != size:  # tarfile asks for no more than the inventory promised
            raise self._changed()
        self._advance(len(data))
        return data

    def check_unchanged(self) -> None:
        now = os.fstat(self._file.fileno())
        if now.st_size != self._entry.size or int(now.st_mtime) != self._entry.mtime:
            raise self._changed()

    def close(self) -> None:
        if hasattr(self, "_file"):
            self._file.close()
        super().close()

    def _unreadable(self, error: OSError) -> RefusedError:
        return RefusedError(
            f"Cannot read {self._entry.path}: {error.strerror}. Nothing was submitted."
        )

    def _changed(self) -> RefusedError:
        return RefusedError(
            f"{self._entry.path} changed while it was being packed. Nothing was submitted: wait "
            "until nothing writes into the folder, then submit again."
        )


class _Pending(NamedTuple):
    """A folder still to be listed."""

    path: str
    prefix: str
    trail: tuple[str, ...]  #: real paths of the folders that lead here, to see a circle


def _walk(directory: str) -> Iterator[Entry]:
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
            if not top.prefix and item.name in RESERVED:
                raise RefusedError(
                    f"{item.path} has a reserved name: {', '.join(sorted(RESERVED))} are made by "
                    "the queue. Rename or delete it, then submit again. Nothing was submitted."
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
    found = item.stat()  # of what a link points at
    kind = stat.S_IFMT(found.st_mode)
    if kind not in (stat.S_IFREG, stat.S_IFDIR):
        raise RefusedError(
            f"{item.path} is {_KINDS.get(kind, 'neither a file nor a folder')} and cannot be sent. "
            "Remove it, then submit again. Nothing was submitted."
        )
    is_folder = kind == stat.S_IFDIR
    return Entry(
        name=name,
        path=item.path,
        is_folder=is_folder,
        mode=found.st_mode & 0o777,
        size=0 if is_folder else found.st_size,
        mtime=int(found.st_mtime),
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
        f"{path} is a link that {problem}. Replace it by what it stands for, or remove it, then "
        "submit again. Nothing was submitted."
    )
