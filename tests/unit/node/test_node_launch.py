"""A program started by die_with_parent.py ends with the agent, also when the agent is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from leruli_node.nomad import die_with_parent

PARENT = """
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-I", "-S", sys.argv[1], str(os.getpid()), *sys.argv[2:]])
print(child.pid, flush=True)
child.wait()
"""


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_program_that_ignores_term_does_not_outlive_its_parent(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    # As Nomad does while it waits for a task to end.
    stubborn = ["/bin/sh", "-c", f'trap "" TERM; : > {ready}; while :; do sleep 0.1; done']
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, die_with_parent.__file__, *stubborn], stdout=subprocess.PIPE
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    try:
        deadline = time.monotonic() + 10
        while not ready.exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        parent.kill()
        parent.wait()
        deadline = time.monotonic() + 5
        while is_alive(pid):
            assert time.monotonic() < deadline, "it outlived its parent"
            time.sleep(0.02)
    finally:
        parent.stdout.close()
        if is_alive(pid):
            os.kill(pid, signal.SIGKILL)
