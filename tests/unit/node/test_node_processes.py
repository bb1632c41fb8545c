"""Child processes for which no thread waits."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from leruli_node.nomad import orphans

# In a process of its own: pytest has children whose exit codes it needs.
SCRIPT = """
import subprocess, sys, time
from leruli_node.nomad import orphans
ended = [subprocess.Popen(["true"]) for _ in range(3)]
runs = subprocess.Popen(["sleep", "60"])
time.sleep(0.5)
before = orphans.children()
orphans.reap(set())
after = orphans.children()
kept = subprocess.Popen(["sh", "-c", "exit 7"])
time.sleep(0.5)
orphans.reap({kept.pid})
print(len(before), after == {runs.pid}, kept.wait(), runs.poll())
print(orphans.end_children(set(), 5.0), orphans.children())
"""


def test_ended_children_are_reaped_and_running_ones_are_not() -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(orphans.__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["4 True 7 None", "1 set()"]
