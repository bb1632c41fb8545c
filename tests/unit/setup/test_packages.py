"""setup/packages.sh: what it says where it cannot install."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Script = Callable[..., subprocess.CompletedProcess[str]]


def test_elsewhere_than_debian_it_lists_what_to_install(script: Script, programs: Path) -> None:
    for name in ("bash", "dirname", "grep", "timeout", "flock"):
        (programs / name).symlink_to(str(shutil.which(name)))
    script_copy = "sed s#:/usr/sbin:/sbin## setup/packages.sh"
    # Without /usr/sbin on its PATH it sees no dockerd, and no apt-get means no Debian.
    edited = script("bash", "-c", f"{script_copy} > setup/p.sh && chmod +x setup/p.sh")
    assert edited.returncode == 0, edited.stderr
    done = script("setup/p.sh", "docker", "images", "lint", path=str(programs))
    assert done.returncode == 1
    assert "these are missing: docker.io mmdebstrap" in done.stderr
    assert "shellcheck git" in done.stderr
    assert "This is not Debian or Ubuntu" in done.stderr


def test_nothing_missing_says_nothing(script: Script, program: Callable[[str, str], Path]) -> None:
    for name in ("docker", "dockerd", "mmdebstrap", "shellcheck", "git", "gcc", "newuidmap"):
        program(name, "true")
    done = script("setup/packages.sh", "docker", "images", "lint", "cc")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.skipif(not Path("/etc/debian_version").exists(), reason="apt is Debian's")
@pytest.mark.parametrize(
    ("candidate", "installed"), [("2:1.19~1", False), ("2:1.24~2", True), ("(none)", False)]
)
def test_go_from_apt_only_when_it_can_get_itself_a_newer_one(
    script: Script,
    program: Callable[[str, str], Path],
    programs: Path,
    tmp_path: Path,
    candidate: str,
    installed: bool,
) -> None:
    asked = tmp_path / "asked"
    names = [
        "bash",
        "dirname",
        "grep",
        "timeout",
        "flock",
        "sed",
        "awk",
        "head",
        "sort",
        "env",
        "mkdir",
        "rm",
        "sleep",
        "tail",
    ]
    for name in names:
        (programs / name).symlink_to(str(shutil.which(name)))
    program("apt-cache", f"echo '  Candidate: {candidate}'")
    program("apt-get", f'echo "$@" >>{asked}')
    if os.geteuid() != 0:
        program("sudo", '[[ $1 == -v ]] && exit; shift; exec "$@"')
    done = script("setup/packages.sh", "go", path=str(programs))
    assert done.returncode == 0, done.stderr
    assert asked.exists() is installed
    if installed:
        assert "golang-go" in asked.read_text()
        assert "will be installed by apt: golang-go" in done.stdout
