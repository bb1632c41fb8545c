"""Part files: files that are being fetched, and those that a killed command left.

A process holds a lock (flock) on its part file while it writes, and the lock ends with the process.
So a part file that can be locked is abandoned. Files without a lock count as abandoned after a day:
other temporary files of the client, and all files on a file system without locks.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import stat
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from leruli.folder.job_folder import PART_PREFIX

# The prefix of files that are locked.
_LOCKED_PREFIX = f"{PART_PREFIX}get-"

_ABANDONED_AFTER_S = 86400.0


@contextlib.contextmanager
def part_in(folder: Path) -> Iterator[Path]:
    """Yield a path to write to. A file that remains there after the block is deleted."""
    part, descriptor = _make(folder)
    try:
        yield part
    finally:
        with contextlib.suppress(OSError):
            part.unlink()
        os.close(descriptor)


def _make(folder: Path) -> tuple[Path, int]:
    while True:
        part = folder / f"{_LOCKED_PREFIX}{secrets.token_hex(6)}"
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        # Before the lock another process may have deleted it as abandoned.
        if _is_at(part, descriptor):
            return part, descriptor
        os.close(descriptor)


def sweep(root: Path, folders: Iterable[str]) -> None:
    """Delete abandoned part files in `root` and in `folders` below it, as far as possible.

    `root` is a resolved path. Names that lead out of it, through .. or a link, are ignored.
    """
    for name in {"", *folders}:
        folder = root / name
        with contextlib.suppress(OSError, ValueError):
            if folder.resolve() == folder and root in (folder, *folder.parents):
                _sweep_one(folder)


def _sweep_one(folder: Path) -> None:
    with os.scandir(folder) as entries:
        found = [one for one in entries if one.name.startswith(PART_PREFIX)]
    for one in found:
        with contextlib.suppress(OSError):
            if one.is_file(follow_symlinks=False):
                _delete_if_abandoned(Path(one.path))


def _delete_if_abandoned(path: Path) -> None:
    # Over NFS a lock needs a writable file.
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    try:
        is_locked = True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        except OSError:
            is_locked = False
        found = os.fstat(descriptor)
        # ctime, because the mtime may be that of the result.
        is_old = time.time() - found.st_ctime > _ABANDONED_AFTER_S
        has_a_lock = is_locked and path.name.startswith(_LOCKED_PREFIX)
        if stat.S_ISREG(found.st_mode) and (has_a_lock or is_old) and _is_at(path, descriptor):
            path.unlink()
    finally:
        os.close(descriptor)


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
