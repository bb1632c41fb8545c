"""Finds the folder with the logs of an attempt whose command has begun."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from leruli_node.attempts.store import AttemptStore
from leruli_node.files.walk import OPEN_FOLDER
from leruli_node.folders import Folders
from leruli_node.live.tail import open_log
from leruli_node.model import AttemptId


@dataclass(frozen=True)
class Places:
    """The folders of the logs. `in_shared` returns the rundir of the container that runs one."""

    folders: Folders
    store: AttemptStore
    in_shared: Callable[[AttemptId], Path | None]

    def open(self, attempt: AttemptId, name: str) -> tuple[int, tuple[int, int]] | None:
        """Open a log of an attempt, as `open_log` does.

        None also before the command begins: the input may have a log of an earlier run. Raises
        OSError.
        """
        state = self.store.get(attempt)
        if state is None:
            return None
        job = self.folders.job(attempt.key)
        if not state.in_shared:
            begun = _changed_at(job / "control" / "started")
            return None if begun is None else _open(job / "rundir", name, begun)
        shared = self.in_shared(attempt)
        opened = _open(shared, name) if shared is not None else None
        if opened is not None and self.in_shared(attempt) != shared:
            # Meanwhile the container got the files of its next attempt.
            os.close(opened[0])
            opened = None
        # The files go back to the attempt's own folder when it has ended.
        return opened or _open(job / "rundir", name)


def _open(folder: Path, name: str, since_ns: int = 0) -> tuple[int, tuple[int, int]] | None:
    try:
        descriptor = os.open(folder, OPEN_FOLDER)
    except FileNotFoundError:
        return None
    try:
        return open_log(descriptor, name, since_ns)
    finally:
        os.close(descriptor)


def _changed_at(path: Path) -> int | None:
    """Return when main.sh made its note, right before it opened the logs."""
    try:
        return os.stat(path, follow_symlinks=False).st_ctime_ns
    except OSError:
        return None
