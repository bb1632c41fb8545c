"""The package's wheels suffice for every Python that it promises, without a network."""

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


# The oldest patch release that a distribution has, and what Debian and Ubuntu have.
@pytest.mark.parametrize("version", ["3.9.2", "3.10.12", "3.11.2", "3.12.3", "3.13.5"])
def test_the_wheels_suffice(wheels: Path, version: str) -> None:
    """Checked by uv, which evaluates markers and tags for a Python that is not installed."""
    (agent,) = wheels.glob("leruli_node-*.whl")
    install = [Path(sys.executable).parent / "uv", "pip", "install", "--quiet", "--no-config"]
    install += ["--offline", "--no-cache", "--no-index", "--find-links", wheels, "--dry-run"]
    install += ["--python-version", version, "--only-binary", ":all:"]
    install += ["--python-platform", f"{platform.machine()}-manylinux_2_34", "--reinstall"]
    subprocess.run([*install, "--require-hashes", "-r", wheels / "node.txt"], check=True)
    # The agent's own requirements are among them.
    subprocess.run([*install, "--constraint", wheels / "node.txt", agent], check=True)
