"""H10, H2: the agent's memory is bounded, whatever a job leaves.

The real uploader runs in a process.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "support" / "hostile_output.py"
# MB of memory above rest. Before H10 a name cost 200 to 280 bytes, and one request.
MOST_MB = 16


@pytest.mark.parametrize(
    ("kind", "amount", "objects", "said"),
    [
        ("names", 60_000, 10_003, "files after the first 10000"),
        ("links", 60_000, 3, "60000 links"),
        ("deep", 1_500, 104, "folder below 250 others"),
    ],
)
def test_memory_of_an_upload(
    kind: str, amount: int, objects: int, said: str, tmp_path: Path
) -> None:
    """H10: many names and links; H2: nested folders."""
    command = [sys.executable, str(SCRIPT), kind, str(amount), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr.decode()
    measured = json.loads(done.stdout)
    assert measured["said"].startswith(f"{objects} objects; ")
    assert said in measured["said"]
    assert measured["peak_mb"] < MOST_MB
