"""H1: the agent's memory is bounded, whatever run.tgz contains.

The real unpacker runs in a process.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "support" / "hostile_input.py"
# MB of memory above rest. Before H1 the amounts below needed a multiple of it, or (a bomb by size)
# show that they pass.
MOST_MB = 16


@pytest.mark.parametrize(
    ("kind", "amount", "said"),
    [
        ("comments", 40, "headers are too long"),
        ("allowed_comments", 100, "no run.sh"),
        ("entries", 5_000, "no run.sh"),
        ("bomb", 60, "no run.sh"),
        ("sparse", 60, "headers are too long"),
        ("sparse_pax", 40, "cannot be unpacked"),
        ("deep", 1_900, "more than 100 folders in each other"),
        ("many_folders", 3_000, "more than 20000 files"),
        ("members", 2_000, ""),
    ],
)
def test_memory_of_unpacking(kind: str, amount: int, said: str) -> None:
    """H1: pax comments, many entries, bombs by size, maps of sparse files, nested folders."""
    command = [sys.executable, str(SCRIPT), kind, str(amount), "20000"]
    done = subprocess.run(command, capture_output=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr.decode()
    measured = json.loads(done.stdout)
    assert said in measured["said"]
    assert measured["peak_mb"] < MOST_MB
