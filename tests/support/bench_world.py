"""A short run of `python -m bench`, for its tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def bench(data: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Measure once, without the peers; temporary files go to `data`."""
    return subprocess.run(
        [
            *(sys.executable, "-m", "bench", "--repeat", "1", "--no-peers", "--no-write"),
            *("--data", str(data), *arguments),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
