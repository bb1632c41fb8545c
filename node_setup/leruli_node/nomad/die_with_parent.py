"""Becomes another program that is killed when its parent ends.

Run as `python -I -S die_with_parent.py PARENT_PID PROGRAM ARGUMENT…`. A program of its own because
setting this between fork and exec is not safe in a process with threads.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
# Not TERM: Nomad then waits for tasks that it is just ending, for minutes where one of them is over
# already, and the next agent's Nomad cannot open the state. It is made for KILL, and re-attaches.
_END = signal.SIGKILL


def main(argv: list[str]) -> int:  # noqa: RET503 - execv does not return
    """Does not return, unless the parent is gone already."""
    parent, program = int(argv[1]), argv[2:]
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, _END, 0, 0, 0) != 0:
        sys.stderr.write("prctl(PR_SET_PDEATHSIG) failed\n")
        return 1
    # It may have ended before it was asked to tell.
    if os.getppid() != parent:
        return 0
    os.execv(program[0], program)  # noqa: S606 - the path is the agent's own setting


if __name__ == "__main__":
    sys.exit(main(sys.argv))
