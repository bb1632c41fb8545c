"""Files that are being fetched, and what a command that was killed left of them.

Such a file is locked (flock) for as long as its process writes it, and the end of the process ends
the lock. So a file that can be locked is abandoned. Other temporary files of the client have no
lock, nor has any on a file system without locks: these are abandoned after a day.
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

from leruli.jobfolder import PART_PREFIX

# Begins the names of the files that are locked.
_LOCKED_PREFIX = f"{PART_PREFIX}get-"

_ABANDONED_AFTER_S = 86400.0


@contextlib.contextmanager
def part_in(folder: Path) -> Iterator[Path]:
    """Yield a path to write to; a file that is still there at the end is deleted."""
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
        # Another process may have taken it for abandoned before it was locked.
        if _is_at(part, descriptor):
            return part, descriptor
        os.close(descriptor)


def sweep(root: Path, folders: Iterable[str]) -> None:
    """Delete abandoned files in `root` and in these folders in it, as far as that can be done.

    `root` is a resolved path. Names that lead out of it, through .. or a link, are passed over.
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
    # A lock over NFS needs a file that can be written.
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
        # The time of the last change, as the file may have been given the time of its result.
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
