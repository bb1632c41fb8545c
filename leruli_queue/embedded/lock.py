"""One stack per data folder: the lock, its holder, and how to stop the holder."""

from __future__ import annotations

import fcntl
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from leruli_queue.embedded.processes import start_time
from leruli_queue.errors import SetupError


@contextmanager
def hold(path: Path) -> Iterator[None]:
    """Hold the lock within the block.

    Raises
    ------
    SetupError
        When another stack holds it.
    """
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _is_up(path, file.read().strip()) from None
        file.truncate()
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
        file.truncate(0)


def refuse_if_held(path: Path) -> None:
    """Raise an error if a stack is up.

    Raises
    ------
    SetupError
        When a stack holds the lock.
    """
    pid = holder(path)
    if pid is not None:
        raise _is_up(path, str(pid))


def _is_up(path: Path, pid: str) -> SetupError:
    return SetupError(
        f"A stack is up already with the data folder {path.parent} (process {pid}). "
        f"Stop it with `leruli-queue down --data {path.parent}`."
    )


def holder(path: Path) -> int | None:
    """Return the process id of the stack that holds the lock, None if no stack does."""
    try:
        file = path.open("r+", encoding="ascii")
    except FileNotFoundError:
        return None
    with file:
        while _is_locked(file):
            # The holder writes its process id right after it takes the lock, and removes it right
            # before it releases the lock.
            file.seek(0)
            if (text := file.read().strip()).isdigit():
                return int(text)
            time.sleep(0.01)
    return None


def _is_locked(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def stop_holder(path: Path, *, seconds: float) -> bool:
    """Tell the holder to stop and wait until it has; return False if nobody held the lock.

    Raises
    ------
    SetupError
        When it has not stopped in time.
    """
    pid = holder(path)
    if pid is None:
        return False
    started = start_time(pid)
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + seconds
    # The lock is free a moment before the process ends.
    while holder(path) == pid or (started and start_time(pid) == started):
        if time.monotonic() > deadline:
            raise SetupError(
                f"The stack (process {pid}) has not stopped after {seconds:.0f} s. "
                f"See {path.parent / 'logs'}."
            )
        time.sleep(0.1)
    return True
