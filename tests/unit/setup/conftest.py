"""Running the set-up scripts in a copy of the tree, so that its own .venv is left alone."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree with the set-up scripts and what they read, and nothing made yet."""
    copy = tmp_path / "tree"
    for folder in ("setup", "images", "node_setup/nomad"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder for made-up programs, first on the PATH of `script`."""
    folder = tmp_path / "programs"
    folder.mkdir()
    return folder


@pytest.fixture
def program(programs: Path) -> Callable[[str, str], Path]:
    """Makes a bash program of that name."""

    def make(name: str, body: str) -> Path:
        path = programs / name
        path.write_text(f"#!/bin/bash\n{body}\n")
        path.chmod(0o755)
        return path

    return make


@pytest.fixture
def script(
    tree: Path, programs: Path, tmp_path: Path
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a command in the tree, with a cache of its own and no settings of the caller's."""

    def run(*command: str, path: str = "", **env: str) -> subprocess.CompletedProcess[str]:
        clean = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("LERULI_", "DOCKER_"))
        }
        clean["PATH"] = path or f"{programs}:/usr/bin:/bin"
        clean["LERULI_QUEUE_CACHE"] = str(tmp_path / "cache")
        return subprocess.run(
            command,
            cwd=tree,
            env=clean | env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run
