"""A signal that interrupts the agent at a bad moment."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

# The test runs this in a separate process, because a deadlock never ends.
SCRIPT = """
import os, signal, sys, threading
from leruli_node.settings import read_settings
from leruli_node.wiring import build

lifetime = build(read_settings({
    "LERULI_BASEURL": "http://127.0.0.1:9", "LERULI_GROUP_TOKEN": "x",
    "LERULI_COMPUTE_SECRET": "x", "LERULI_S3_SERVER": "http://127.0.0.1:9",
    "LERULI_S3_ACCESS": "x", "LERULI_S3_SECRET": "x", "LERULI_NODE_NOMAD": "/bin/true",
    "LERULI_NODE_DRIVER": "/bin/true", "LERULI_NODE_DIR": sys.argv[1],
})).base.lifetime
lifetime.obey_signals()
"""

HELD_LOCK = """
for event in (lifetime.draining, lifetime.hurry):
    # The places where wait() and set() hold the lock for a moment.
    with event._cond:
        signal.raise_signal(signal.SIGTERM)
    assert event.wait(5)
"""

# The kernel interrupts another thread, so that nothing wakes this one for a handler in Python.
SLEEPING = """
threading.Thread(target=threading.Event().wait, daemon=True).start()
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
for event in (lifetime.draining, lifetime.hurry):
    os.kill(os.getpid(), signal.SIGTERM)
    assert event.wait(20)
"""


@pytest.mark.parametrize("moment", [HELD_LOCK, SLEEPING], ids=["held lock", "sleeping"])
def test_a_signal_is_obeyed_at_any_moment(tmp_path: Path, moment: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT + moment, str(tmp_path / "node")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
