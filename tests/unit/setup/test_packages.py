"""setup/packages.sh: messages where it cannot install packages."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

Script = Callable[..., subprocess.CompletedProcess[str]]


def test_on_other_systems_it_lists_the_missing_packages(script: Script, programs: Path) -> None:
    for name in ("bash", "dirname", "grep", "timeout", "flock"):
        (programs / name).symlink_to(str(shutil.which(name)))
    script_copy = "sed s#:/usr/sbin:/sbin## setup/packages.sh"
    # Without /usr/sbin on its PATH it finds no dockerd. Without apt-get this is no Debian for it.
    edited = script("bash", "-c", f"{script_copy} > setup/p.sh && chmod +x setup/p.sh")
    assert edited.returncode == 0, edited.stderr
    done = script("setup/p.sh", "docker", "images", "lint", path=str(programs))
    assert done.returncode == 1
    assert "these are missing: docker.io mmdebstrap" in done.stderr
    assert "shellcheck git" in done.stderr
    assert "This is not Debian or Ubuntu" in done.stderr


def test_without_missing_packages_it_prints_nothing(
    script: Script, program: Callable[[str, str], Path]
) -> None:
    for name in ("docker", "dockerd", "mmdebstrap", "shellcheck", "git", "gcc", "newuidmap"):
        program(name, "true")
    done = script("setup/packages.sh", "docker", "images", "lint", "cc")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
