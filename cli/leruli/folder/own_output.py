"""Files in a job folder that take the output of this very process, as in `leruli run … > out`.

The shell makes such a file before the client starts, and it grows while the client runs. So it is
no input of the job.
"""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

from leruli.folder.job_folder import HISTORY

_Identity = tuple[int, int]  # device and inode


def own_output(directory: str) -> frozenset[str]:
    """Return the names of the files that standard output and standard error go to, if any.

    A name is relative to `directory`, with / between the parts.
    """
    wanted = {one for file in (sys.stdout, sys.stderr) for one in _regular_file(file)}
    if not wanted:
        return frozenset()
    found = set()
    root = Path(directory)
    for path, folders, files in os.walk(root):
        above = Path(path)
        if above == root and HISTORY in folders:
            folders.remove(HISTORY)
        for name in files:
            if _identity_of(above / name) in wanted:
                found.add((above / name).relative_to(root).as_posix())
    return frozenset(found)


def _regular_file(file: object) -> list[_Identity]:
    try:
        status = os.fstat(file.fileno())  # type: ignore[attr-defined]
    except (OSError, ValueError, AttributeError):
        return []
    return [(status.st_dev, status.st_ino)] if stat.S_ISREG(status.st_mode) else []


def _identity_of(path: Path) -> _Identity | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
