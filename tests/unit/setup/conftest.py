"""Run the set-up scripts in a copy of the tree, so that its own .venv stays unchanged."""

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
    """Return a tree with the set-up scripts and the files that they read."""
    copy = tmp_path / "tree"
    for folder in (
        "setup",
        "images",
        "node_setup/nomad",
        "node_setup/runner",
        "objectstore",
        "requirements",
    ):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """Return a folder for fake programs, first on the PATH of `script`."""
    folder = tmp_path / "programs"
    folder.mkdir()
    return folder


@pytest.fixture
def program(programs: Path) -> Callable[[str, str], Path]:
    """Return a function that makes a bash program of a name."""

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
    """Return a function that runs a command in the tree, with its own cache and settings."""

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
