"""Removing a folder tree of any depth, width and mode, without recursion and in bounded memory.

A subfolder that is not empty is renamed into the top folder first. So every folder is emptied as a
child of the top, and the paths, the stack and the number of open files stay small.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NOT_EMPTY = (errno.ENOTEMPTY, errno.EEXIST)


def remove_tree(top: Path) -> OSError | None:
    """Remove a folder and all in it; follow no link, enter no mount.

    Removes as much as it can. Can be repeated, also after a crash in the middle.

    Returns
    -------
    The first error that kept something from being removed, None when nothing is left.
    """
    try:
        if not stat.S_ISDIR(os.lstat(top).st_mode):
            os.unlink(top)
            return None
        descriptor = _open_folder(str(top))
    except FileNotFoundError:
        return None
    except OSError as error:
        return error
    try:
        failure = _Emptying(descriptor).run()
        if failure is None:
            os.rmdir(top)
        return failure
    except OSError as error:
        return error
    finally:
        os.close(descriptor)


class _Emptying:
    """Empties the folder that `top` is open on."""

    def __init__(self, top: int) -> None:
        self._top = top
        self._prefix = f".{secrets.token_hex(8)}-"
        self._moved = 0
        self._removed = 0
        self._failures: list[OSError] = []

    def run(self) -> OSError | None:
        """Go through the top until nothing is left in it, or nothing more can be removed."""
        while True:
            before = self._removed + self._moved
            self._failures.clear()
            for name in _names(self._top):
                self._remove(name)
            if not self._failures and not any(_names(self._top)):
                return None
            if self._removed + self._moved == before:
                nothing_worked = OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY))
                return next(iter(self._failures), nothing_worked)

    def _remove(self, name: str) -> None:
        """Remove an entry of the top; what is in it may have come to the top then."""
        try:
            try:
                os.unlink(name, dir_fd=self._top)
            except (IsADirectoryError, PermissionError):
                self._remove_folder(name)
            self._removed += 1
        except FileNotFoundError:
            pass
        except OSError as error:
            if not self._failures:
                self._failures.append(error)

    def _remove_folder(self, name: str) -> None:
        with contextlib.suppress(OSError):
            os.rmdir(name, dir_fd=self._top)
            return
        folder = _open_folder(name, self._top)
        try:
            for entry in _names(folder):
                self._remove_below(entry, folder)
        finally:
            os.close(folder)
        os.rmdir(name, dir_fd=self._top)

    def _remove_below(self, name: str, folder: int) -> None:
        try:
            os.unlink(name, dir_fd=folder)
        except (IsADirectoryError, PermissionError):
            try:
                os.rmdir(name, dir_fd=folder)
            except OSError as error:
                if error.errno not in _NOT_EMPTY:
                    raise
                self._move(name, folder)
                return
        self._removed += 1

    def _move(self, name: str, folder: int) -> None:
        new = f"{self._prefix}{self._moved}"
        try:
            os.rename(name, new, src_dir_fd=folder, dst_dir_fd=self._top)
        except PermissionError:
            # To another folder its owner moves only what he may write to.
            os.chmod(name, 0o700, dir_fd=folder)
            os.rename(name, new, src_dir_fd=folder, dst_dir_fd=self._top)
        self._moved += 1


def _names(folder: int) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            yield entry.name


def _open_folder(name: str, within: int | None = None) -> int:
    """Open a folder and, where it is ours, give its owner all rights on it."""
    try:
        descriptor = os.open(name, _OPEN, dir_fd=within)
    except PermissionError:
        os.chmod(name, 0o700, dir_fd=within)
        descriptor = os.open(name, _OPEN, dir_fd=within)
    if os.getuid() != 0:
        # Without w and x nothing in it can be removed.
        with contextlib.suppress(OSError):
            os.fchmod(descriptor, 0o700)
    return descriptor
