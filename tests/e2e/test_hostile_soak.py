"""A short `make soak SOAK_ARGS=--hostile`: honest jobs end normally beside enemies."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.timeout(900)
def test_honest_jobs_end_once_beside_enemies(tmp_path: Path) -> None:
    """H1, H2, H3, H4, H5, H8, H10, M11 and M13 at once, beside 30 honest jobs that run."""
    size = ("--seed", "20261201", "--jobs", "500", "--drain", "30")
    kills = ("--kill-every", "20", "--fewest-kills", "0", "--limit", "300")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "soak", "--hostile", "--json", "--data", str(tmp_path)),
            *(*size, *kills),
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
    assert sum(report["states"].values()) == report["jobs"] == 500
    assert report["states"]["completed"] + report["states"]["failed"] >= 30
    # Of the enemies' jobs some ran, and the service was called by the others.
    assert sum(count for name, count in report["counts"].items() if "(H" in name) >= 10
    assert report["counts"]["hostile: group-usage answered with 200"] > 100
    assert report["memory"].keys() == {"node", "service", "dispatcher"}
    assert list(tmp_path.iterdir()) == []
