"""`leruli run` on a real stack: as the program itself, called by a person, by make, and by ASE."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from e2e_world import BIN, GATED, StackOfTest, wait_for

from bench import pinned

MOPAC = ("mopac", "22.0")

MAKEFILE = """
RUN = leruli run --quiet --memory 200 leruli-test 1
all: $(foreach n,1 2 3 4,$n/square)
%/square: %/number
\tcd $* && $(RUN) 'x=$$(cat number); echo $$((x * x)) > square; echo number $$x'
"""

# The second energy is one of an edited input, in the same folder.
WATER = """
from ase import Atoms
from ase.calculators.mopac import MOPAC
water = Atoms("OH2", [(0, 0, 0), (0.96, 0, 0), (-0.24, 0.93, 0)])
water.calc = MOPAC(label="water", command="leruli run --memory 500 mopac 22.0 mopac PREFIX.mop")
print("energy", water.get_potential_energy())
water.positions[1, 0] = 1.2
print("energy", water.get_potential_energy())
"""


def run(
    stack: StackOfTest, folder: Path, *arguments: str | Path, program: Path | str = BIN / "leruli"
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program, *arguments],
        cwd=folder,
        env=stack.user,
        capture_output=True,
        text=True,
        timeout=300,
    )


@contextmanager
def running(stack: StackOfTest, folder: Path, command: str) -> Iterator[Any]:
    """Begin `leruli run`, yield its process when the job has written `begun`."""
    process = subprocess.Popen(
        [BIN / "leruli", "run", "--memory", "200", "leruli-test", "1", command],
        cwd=folder,
        env=stack.user,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        yield process
    finally:
        process.kill()
        process.wait()


def test_output_and_exit_code_of_the_program(stack: StackOfTest, folder: Path) -> None:
    (folder / "input.txt").write_text("energy -76.4\n")
    command = f"echo begun; {GATED}; cat input.txt; cp input.txt output.txt; echo bad >&2; exit 3"
    with running(stack, folder, command) as process:
        bucket = (folder / "leruli.bucket").read_text().strip()
        assert stack.end_gated(folder)[0] == "failed"
        output, errors = process.communicate(timeout=90)
    assert (process.returncode, output) == (3, "energy -76.4\n")
    assert "bad\n" in errors
    assert (folder / "output.txt").read_text() == "energy -76.4\n"
    assert (folder / "joblog.txt").read_text() == "begun\nenergy -76.4\n"
    # Nothing is left in the storage.
    assert run(stack, folder, "task-get", bucket).returncode == 4


@pytest.mark.parametrize(
    ("options", "command", "code"),
    [
        (("--memory", "50"), "exec head -c 200M /dev/zero | tail", 137),
        (("--memory", "200"), "kill -9 $$", 137),
        (("--memory", "200"), "true", 0),
    ],
)
def test_exit_codes(
    stack: StackOfTest, folder: Path, options: tuple[str, ...], command: str, code: int
) -> None:
    done = run(stack, folder, "run", *options, "leruli-test", "1", command)
    assert done.returncode == code, done.stderr


def test_sigterm_ends_the_container(stack: StackOfTest, folder: Path) -> None:
    with running(stack, folder, f"echo begun; {GATED}") as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == -signal.SIGTERM
    wait_for(lambda: stack.status(folder)[0] == "cancelled", seconds=60, what="it is cancelled")
    # The same command runs again. It does not tell the end of the cancelled job.
    again = run(stack, folder, "run", "--memory", "200", "leruli-test", "1", "echo well")
    assert (again.returncode, again.stdout) == (0, "well\n")


def test_make_calls_it_side_by_side(stack: StackOfTest, tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_text(MAKEFILE)
    for number in range(1, 5):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "number").write_text(f"{number}\n")
    made = run(stack, tmp_path, "-j4", program="make")
    assert made.returncode == 0, made.stderr
    squares = [(tmp_path / str(n) / "square").read_text() for n in range(1, 5)]
    assert squares == ["1\n", "4\n", "9\n", "16\n"]
    assert {line for line in made.stdout.splitlines() if line.startswith("number")} == {
        f"number {n}" for n in range(1, 5)
    }
    # make finds nothing to do, and after a change it does one part again.
    assert "Nothing to be done" in run(stack, tmp_path, "-j4", program="make").stdout
    (tmp_path / "3" / "number").write_text("5\n")
    again = run(stack, tmp_path, "-j4", program="make")
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("leruli run") == 1
    assert (tmp_path / "3" / "square").read_text() == "25\n"


def test_ase_calls_it(stack: StackOfTest, folder: Path) -> None:
    assert run(stack, folder, "publish-code", *MOPAC).returncode == 0
    (folder.parent / "water.py").write_text(WATER)
    python = pinned.environment("ase") / "bin" / "python"
    done = run(stack, folder, folder.parent / "water.py", program=python)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines() if line.startswith("energy")]
    first, second = (float(value) for _, value in lines)
    assert first < second
    histories = [path.name for path in (folder / "leruli.history").iterdir()]
    assert len(histories) == 1
