"""Adopts and ends the helper processes that Nomad leaves behind."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import time
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36


def become_subreaper() -> bool:
    """Make this process the new parent of its orphaned descendants.

    Returns
    -------
    Whether the kernel supports it.
    """
    return bool(ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)


def raise_file_limit() -> None:
    """Raise the limit of open files to the hard limit."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def children() -> set[int]:
    """Return the process ids of our children, including zombies."""
    own = os.getpid()
    found = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            text = (entry / "stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        # The command's name is in parentheses and can contain any character.
        fields = text[text.rindex(")") + 2 :].split()
        if int(fields[1]) == own:
            found.add(int(entry.name))
    return found


def reap(keep: set[int]) -> None:
    """Reap ended children, up to the first one in `keep`, for which another thread waits.

    waitid is used instead of /proc: reading all of /proc twice a second costs 1 % of a core, and 10
    % with thousands of processes.
    """
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is None or ended.si_pid in keep:
                return
            os.waitpid(ended.si_pid, os.WNOHANG)
        except ChildProcessError:
            return


def end_children(keep: set[int], kill_after_s: float) -> int:
    """End all children except `keep`: TERM, and KILL after `kill_after_s` seconds.

    Returns
    -------
    How many there were.
    """
    ended: set[int] = set()
    deadline = time.monotonic() + kill_after_s
    last = deadline + 5.0
    while time.monotonic() < last:
        reap(keep)
        left = children() - keep
        if not left:
            break
        for pid in left:
            late = time.monotonic() >= deadline
            if pid not in ended or late:
                _signal(pid, signal.SIGKILL if late else signal.SIGTERM)
        # Children that end leave their own children to us, so look again.
        ended |= left
        time.sleep(0.05)
    return len(ended)


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
