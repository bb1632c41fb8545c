"""setup/tools.sh: which nomad and leruli-objects are taken, and that nothing half-made ever is."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

Script = Callable[..., subprocess.CompletedProcess[str]]
Program = Callable[[str, str], Path]

# A Go that "builds" a program which says the pinned version.
GO = """
if [[ $1 == env ]]; then echo go1.99.1; exit; fi
echo "$GOFLAGS|${GOOS-unset}|$CGO_ENABLED|$*" >>"$GO_CALLS"
while [[ $1 != -o ]]; do shift; done
printf '#!/bin/bash\\necho Nomad v1.11.3\\n' >"$2"
%s
chmod 755 "$2"
"""


def test_takes_a_new_enough_one_from_the_path(script: Script, program: Program, tree: Path) -> None:
    nomad = program("nomad", "echo Nomad v1.12.0")
    done = script("setup/tools.sh", "nomad")
    assert done.returncode == 0, done.stderr
    assert (tree / ".venv/bin/nomad").resolve() == nomad


@pytest.mark.parametrize("version", ["v1.8.0", "v1.10.2"])
def test_reads_the_version_of_the_object_store(
    script: Script, program: Program, tree: Path, version: str
) -> None:
    objects = program("leruli-objects", f"echo 'leruli-objects {version}'")
    assert script("setup/tools.sh", "leruli-objects").returncode == 0
    assert (tree / ".venv/bin/leruli-objects").resolve() == objects


def test_builds_when_the_one_on_the_path_is_too_old(
    script: Script, program: Program, tree: Path, tmp_path: Path
) -> None:
    program("nomad", "echo Nomad v1.9.7")
    program("go", GO % "true")
    program("gcc", "true")
    calls = tmp_path / "calls"
    env = {"GO_CALLS": str(calls), "GOFLAGS": "-mod=vendor", "GOOS": "plan9"}
    done = script("setup/tools.sh", "nomad", **env)
    assert done.returncode == 0, done.stderr
    built = (tree / ".venv/bin/nomad").resolve()
    assert built.parent == tmp_path / "cache/bin"
    assert built.name.startswith("nomad-1.11.3-")
    # The caller's Go settings do not decide what is built.
    assert calls.read_text().startswith("-mod=readonly|unset|1|build -buildvcs=false -trimpath")

    again = script("setup/tools.sh", "nomad", **env)
    assert again.returncode == 0
    assert len(calls.read_text().splitlines()) == 1, "it was built a second time"

    with (tree / "node_setup/nomad/go.sum").open("a") as sums:
        sums.write("\n")
    script("setup/tools.sh", "nomad", **env)
    assert len(calls.read_text().splitlines()) == 2, "another go.sum must be built anew"


def test_two_at_once_build_once(
    script: Script, program: Program, tree: Path, tmp_path: Path, programs: Path
) -> None:
    program("go", GO % "sleep 1.5")
    program("gcc", "true")
    calls = tmp_path / "calls"
    env = dict(
        os.environ,
        PATH=f"{programs}:/usr/bin:/bin",
        LERULI_QUEUE_CACHE=str(tmp_path / "cache"),
        GO_CALLS=str(calls),
    )
    env.pop("LERULI_QUEUE_NOMAD", None)
    both = [
        subprocess.Popen(["setup/tools.sh", "nomad"], cwd=tree, env=env, stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    assert [process.wait(30) for process in both] == [0, 0]
    assert len(calls.read_text().splitlines()) == 1


def test_a_failed_build_leaves_nothing(
    script: Script, program: Program, tree: Path, tmp_path: Path
) -> None:
    program("go", GO % "echo no space left >&2; exit 3")
    program("gcc", "true")
    done = script("setup/tools.sh", "nomad", GO_CALLS=str(tmp_path / "calls"))
    assert done.returncode == 1
    assert "building nomad 1.11.3 failed with exit code 3" in done.stderr
    assert "no space left" in done.stderr
    assert not [path for path in (tmp_path / "cache/bin").iterdir() if "lock" not in path.name]
    assert not (tree / ".venv/bin/nomad").exists()


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_build_ends_its_children_and_leaves_nothing(
    program: Program, tree: Path, tmp_path: Path, programs: Path, sent: signal.Signals, code: int
) -> None:
    pid_file = tmp_path / "pid"
    program("go", GO % f"sleep 300 & echo $! >{pid_file}; wait")
    program("gcc", "true")
    env = dict(
        os.environ,
        PATH=f"{programs}:/usr/bin:/bin",
        LERULI_QUEUE_CACHE=str(tmp_path / "cache"),
        GO_CALLS=str(tmp_path / "calls"),
    )
    env.pop("LERULI_QUEUE_NOMAD", None)
    process = subprocess.Popen(
        ["setup/tools.sh", "nomad"],
        cwd=tree,
        env=env,
        # A test run in the background of a shell has it ignored, which a script cannot undo.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 20
    while not (pid_file.exists() and pid_file.read_text().strip()):
        assert time.monotonic() < deadline, "the build did not start"
        time.sleep(0.05)
    process.send_signal(sent)
    assert process.wait(20) == code
    child = Path("/proc") / pid_file.read_text().strip()
    while child.exists() and "Z" not in (child / "stat").read_text().split()[2]:
        assert time.monotonic() < deadline, "the build went on after Ctrl-C"
        time.sleep(0.05)
    assert not [path for path in (tmp_path / "cache/bin").iterdir() if "lock" not in path.name]


def test_a_named_one_that_is_too_old_is_an_error(script: Script, program: Program) -> None:
    old = program("my-nomad", "echo Nomad v1.10.5")
    done = script("setup/tools.sh", "nomad", LERULI_QUEUE_NOMAD=str(old))
    assert done.returncode == 1
    assert f"LERULI_QUEUE_NOMAD={old} is no nomad >= 1.11" in done.stderr
    assert "1.10.5" in done.stderr


def test_a_named_one_wins_over_the_path(script: Script, program: Program, tree: Path) -> None:
    program("nomad", "echo Nomad v1.13.0")
    named = program("my-nomad", "echo Nomad v1.11.0")
    assert script("setup/tools.sh", "nomad", LERULI_QUEUE_NOMAD=str(named)).returncode == 0
    assert (tree / ".venv/bin/nomad").resolve() == named


def test_our_own_link_is_not_taken_for_a_found_one(
    script: Script, program: Program, tree: Path, programs: Path
) -> None:
    """With .venv activated the link of an older pin is on the PATH; it must not keep itself."""
    own = tree / ".venv/bin"
    own.mkdir(parents=True)
    (own / "nomad").symlink_to(program("older-build", "echo Nomad v1.11.0"))
    newer = program("nomad", "echo Nomad v1.12.0")
    done = script("setup/tools.sh", "nomad", path=f"{own}:{programs}:/usr/bin:/bin")
    assert done.returncode == 0, done.stderr
    assert (own / "nomad").resolve() == newer


def test_without_go_it_says_how_to_get_it(script: Script, programs: Path) -> None:
    for name in (
        "bash",
        "awk",
        "sed",
        "head",
        "sort",
        "timeout",
        "readlink",
        "uname",
        "cut",
        "cat",
    ):
        (programs / name).symlink_to(str(shutil.which(name)))
    for name in ("sha256sum", "mkdir", "flock", "dirname", "env", "rm", "ln", "mv"):
        (programs / name).symlink_to(str(shutil.which(name)))
    done = script("setup/tools.sh", "nomad", path=str(programs))
    assert done.returncode == 1
    assert "nomad must be built, which needs Go 1.25" in done.stderr
    assert "found: none" in done.stderr
    assert "LERULI_QUEUE_NOMAD" in done.stderr
