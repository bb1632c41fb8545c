"""The short form of `make soak`: every part is killed at least twice while jobs come and go."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from soak.parts import NAMES

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.timeout(900)
def test_every_job_ends_once_while_every_part_is_killed(tmp_path: Path) -> None:
    size = ("--seed", "20261124", "--jobs", "2000", "--drain", "40", "--kill-every", "3")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "soak", "--json", "--limit", "400", "--data", str(tmp_path)),
            *size,
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=890,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    # A run that broke off has no report.
    assert done.stdout, f"exit code {done.returncode}: {done.stderr[-4000:]}"
    report = json.loads(done.stdout)
    assert report["findings"] == [], done.stderr
    assert report["jobs"] == 2000
    assert sum(report["states"].values()) == 2000
    assert report["states"]["completed"] + report["states"]["failed"] >= 40
    assert report["kills"].keys() == set(NAMES)
    assert min(part["kills"] for part in report["kills"].values()) >= 2
    assert list(tmp_path.iterdir()) == []
