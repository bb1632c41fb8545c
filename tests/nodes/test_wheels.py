"""The package's wheels are enough for every Python that it promises, without a network."""

from __future__ import annotations

import platform
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from machine import PACKAGE


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("package")
    with tarfile.open(PACKAGE) as package:
        members = [member for member in package if member.name.startswith("nomadrun/wheels/")]
        package.extractall(folder, members, filter="data")
    return folder / "nomadrun/wheels"


@pytest.mark.parametrize("version", ["3.9", "3.10", "3.11", "3.12", "3.13"])
def test_the_wheels_are_enough(wheels: Path, tmp_path: Path, version: str) -> None:
    """By uv, which judges markers and tags for a Python that need not be here."""
    (agent,) = wheels.glob("leruli_node-*.whl")
    install = [Path(sys.executable).parent / "uv", "pip", "install", "--quiet", "--no-config"]
    install += ["--offline", "--no-cache", "--no-index", "--find-links", wheels]
    install += [
        "--python-version",
        version,
        "--python-platform",
        f"{platform.machine()}-manylinux_2_34",
    ]
    install += ["--target", tmp_path, "--only-binary", ":all:"]
    subprocess.run([*install, "--require-hashes", "-r", wheels / "node.txt"], check=True)
    # Its dependencies are all there: nothing is resolved anew.
    before = {path.name for path in tmp_path.iterdir()}
    subprocess.run([*install, agent], check=True)
    added = {path.name for path in tmp_path.iterdir()} - before
    assert {name for name in added if not name.startswith("leruli_node")} <= {"bin", ".lock"}
