"""The client 22.1.6 from PyPI, unchanged, in its own virtual environment."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

PINS = Path(__file__).parents[1] / "requirements" / "published-client.txt"


def published_client() -> Path:
    """Return the path of its command; a change of its pins installs it again into the cache."""
    cache = Path(
        os.environ.get("LERULI_QUEUE_CACHE")
        or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "leruli-queue"
    )
    digest = hashlib.sha256(PINS.read_bytes() + sys.version.encode()).hexdigest()[:12]
    folder = cache / f"published-client-{digest}"
    if not (folder / "complete").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        subprocess.run(
            [folder / "bin" / "pip", "install", "--quiet", "--require-hashes", "-r", PINS],
            check=True,
        )
        (folder / "complete").touch()
    return folder / "bin" / "leruli"
