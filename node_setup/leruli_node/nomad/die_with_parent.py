"""Replaces itself by a program that the kernel kills when the parent process ends.

Run as `python -I -S die_with_parent.py PARENT_PID PROGRAM ARGUMENT…`. It is a program of its own
because prctl between fork and exec is not safe in a process with threads.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
# Not TERM: on TERM Nomad waits for tasks that it is ending, for minutes if one of them is over
# already. Meanwhile the next agent's Nomad cannot open the state. Nomad is made for KILL, and
# re-attaches.
_END = signal.SIGKILL


def main(argv: list[str]) -> int:  # noqa: RET503 - execv does not return
    """Become the program. Returns only if the parent is gone or prctl fails."""
    parent, program = int(argv[1]), argv[2:]
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, _END, 0, 0, 0) != 0:
        sys.stderr.write("prctl(PR_SET_PDEATHSIG) failed\n")
        return 1
    # The parent may have ended before prctl was called.
    if os.getppid() != parent:
        return 0
    os.execv(program[0], program)  # noqa: S606 - the path is the agent's own setting


if __name__ == "__main__":
    sys.exit(main(sys.argv))
