"""Functions of run.sh and lib.sh: which files root reads, and the unit that they write."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

SETUP = Path(__file__).parents[3] / "node_setup"
# The functions only, without the main part of run.sh.
_LOAD = f"""
set -eu
source {SETUP}/lib.sh
eval "$(sed -n '/^[a-z_]*() {{$/,/^}}$/p' {SETUP}/run.sh)"
RUN_AS=root
"""


def bash(script: str, *words: object, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", _LOAD + script, "bash", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


@pytest.mark.parametrize("name", ["plain", "with blanks", "100%d", 'a"b', "a\\b", "$HOME x"])
def test_systemd_reads_the_paths_of_the_unit(tmp_path: Path, name: str) -> None:
    """Low, run.sh:204: systemd interpreted blanks and % of a path."""
    folder = tmp_path / name
    folder.mkdir()
    wrote = bash("HERE=$1 NODE_ENV=$1/node.env; unit_text", folder)
    assert wrote.returncode == 0, wrote.stderr
    unit = tmp_path / "leruli-node.service"
    unit.write_text(wrote.stdout)
    judged = subprocess.run(
        ["systemd-analyze", "verify", unit],
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert judged.stdout + judged.stderr == ""
    [start] = [line for line in wrote.stdout.splitlines() if line.startswith("ExecStart=")]
    quoted = str(folder / "run.sh").replace("\\", "\\\\").replace('"', '\\"')
    assert start == f'ExecStart=/bin/bash "{quoted.replace("%", "%%").replace("$", "$$")}"'


@pytest.mark.parametrize("kind", ["link to a device", "pipe", "large file", "no number"])
def test_another_file_in_place_of_a_pid_file(tmp_path: Path, kind: str) -> None:
    """Low, run.sh:116 and lib.sh:69: root's shell followed a link of the user."""
    path = tmp_path / "docker.pid"
    if kind == "link to a device":
        path.symlink_to("/dev/zero")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "large file":
        path.write_bytes(b"1" * 50_000_000)
    else:
        path.write_text("1; x")
    # Within the timeout of run.sh, and in little memory.
    done = bash(
        'ulimit -v 200000; if lives "$1"; then echo yes; else echo no; fi', path, timeout=20
    )
    assert (done.stdout, done.returncode) == ("no\n", 0), done.stderr
    path.unlink()
    path.write_text(f"{os.getpid()}\n")
    assert bash('lives "$1" && echo yes', path).stdout == "yes\n"


def test_root_asks_as_the_user() -> None:
    """A process of the user reads the file, so it reads only the user's files."""
    script = 'as_user() { printf "%s\\n" "as $1:" "${@:2}"; }; RUN_AS=daemon; docker_lives'
    said = bash(script).stdout.splitlines()
    assert said[:3] == ["as daemon:", "timeout", "5"]
    assert said[-1] == "/run/user/1/docker.pid"
