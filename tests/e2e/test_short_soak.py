"""The short form of `make soak SOAK_ARGS=--short`: slots run jobs while every part is killed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from soak.parts import NAMES

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.timeout(900)
def test_every_short_job_ends_once_while_every_part_is_killed(tmp_path: Path) -> None:
    size = ("--seed", "20261202", "--jobs", "600", "--drain", "100", "--kill-every", "5")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "soak", "--short", "--json", "--limit", "400"),
            *("--data", str(tmp_path), *size),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=890,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    # A run that broke off has no report.
    assert done.stdout, f"{done.stderr}\nexit code {done.returncode}"
    report = json.loads(done.stdout)
    assert report["findings"] == []
    assert sum(report["states"].values()) == 600
    assert report["states"]["completed"] + report["states"]["failed"] >= 100
    assert report["further"] > 0
    assert report["shared"] > 0
    assert min(report["kills"][name]["kills"] for name in NAMES) >= 2
    assert list(tmp_path.iterdir()) == []
