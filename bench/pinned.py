"""Programs from PyPI that do not belong into .venv, each in its own virtual environment."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

_REQUIREMENTS = Path(__file__).parents[1] / "requirements"


def environment(name: str) -> Path:
    """Return the virtual environment with the pins of requirements/NAME.txt.

    It is in the cache. A change of its pins, or another Python, makes it again.
    """
    pins = _REQUIREMENTS / f"{name}.txt"
    cache = Path(
        os.environ.get("LERULI_QUEUE_CACHE")
        or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "leruli-queue"
    )
    digest = hashlib.sha256(pins.read_bytes() + sys.version.encode()).hexdigest()[:12]
    folder = cache / f"{name}-{digest}"
    if not (folder / "complete").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        subprocess.run(
            [folder / "bin" / "pip", "install", "--quiet", "--require-hashes", "-r", pins],
            check=True,
        )
        (folder / "complete").touch()
    return folder


def published_client() -> Path:
    """Return the path of the command of the client 22.1.6 from PyPI, unchanged."""
    return environment("published-client") / "bin" / "leruli"
