"""Removes a folder tree of any depth, width and mode, without recursion and in bounded memory.

A subfolder that is not empty is first renamed into the top folder. So every folder is emptied as a
child of the top, and paths, stack and open files stay few.
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
    """Remove a folder and all in it. Follow no link and enter no mount.

    Removes as much as possible. Can be repeated, also after a crash.

    Returns
    -------
    The first error that prevented a removal, None if nothing is left.
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
    """Empties the folder of the descriptor `top`."""

    def __init__(self, top: int) -> None:
        self._top = top
        self._prefix = f".{secrets.token_hex(8)}-"
        self._moved = 0
        self._removed = 0
        self._failures: list[OSError] = []

    def run(self) -> OSError | None:
        """Repeat passes over the top until it is empty, or a pass removes nothing."""
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
        """Remove an entry of the top. Its content may move to the top."""
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
            # Moving a folder to another parent needs write permission on the folder itself.
            os.chmod(name, 0o700, dir_fd=folder)
            os.rename(name, new, src_dir_fd=folder, dst_dir_fd=self._top)
        self._moved += 1


def _names(folder: int) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            yield entry.name


def _open_folder(name: str, within: int | None = None) -> int:
    """Open a folder and give its owner all permissions, as far as allowed."""
    try:
        descriptor = os.open(name, _OPEN, dir_fd=within)
    except PermissionError:
        os.chmod(name, 0o700, dir_fd=within)
        descriptor = os.open(name, _OPEN, dir_fd=within)
    if os.getuid() != 0:
        # Without w and x nothing in the folder can be removed.
        with contextlib.suppress(OSError):
            os.fchmod(descriptor, 0o700)
    return descriptor
