"""The agent as guardian of what Nomad leaves behind: helpers without a parent."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import time
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36


def become_subreaper() -> bool:
    """Have orphans among our descendants become our children; whether the kernel does it."""
    return bool(ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)


def raise_file_limit() -> None:
    """Allow this process as many open files as it may have."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def children() -> set[int]:
    """The process ids of our children, also of those that ended and were not reaped."""
    own = os.getpid()
    found = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            text = (entry / "stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        # The command's name is in parentheses and can hold anything.
        fields = text[text.rindex(")") + 2 :].split()
        if int(fields[1]) == own:
            found.add(int(entry.name))
    return found


def reap(keep: set[int]) -> None:
    """Reap children that ended, up to one whose end somebody else waits for.

    The kernel is asked, not /proc: to read all of it twice a second is a hundredth of a core, and a
    tenth where thousands of processes run.
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
    """End all children but some: TERM, after `kill_after_s` seconds KILL. How many there were."""
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
        # Those that end leave their own children to us: looked for again.
        ended |= left
        time.sleep(0.05)
    return len(ended)


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
