"""A signal that interrupts the agent at a bad moment."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

# The test runs this in a separate process, because a deadlock never ends.
SCRIPT = """
import signal, sys
from leruli_node.settings import read_settings
from leruli_node.wiring import build

lifetime = build(read_settings({
    "LERULI_BASEURL": "http://127.0.0.1:9", "LERULI_GROUP_TOKEN": "x",
    "LERULI_COMPUTE_SECRET": "x", "LERULI_S3_SERVER": "http://127.0.0.1:9",
    "LERULI_S3_ACCESS": "x", "LERULI_S3_SECRET": "x", "LERULI_NODE_NOMAD": "/bin/true",
    "LERULI_NODE_DRIVER": "/bin/true", "LERULI_NODE_DIR": sys.argv[1],
})).base.lifetime
signal.signal(signal.SIGTERM, lifetime.on_signal)
for event in (lifetime.draining, lifetime.hurry):
    # The places where wait() and set() hold the lock for a moment.
    with event._cond:
        signal.raise_signal(signal.SIGTERM)
    assert event.wait(5)
"""


def test_a_signal_does_not_wait_for_a_lock_of_its_own_thread(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "node")],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
