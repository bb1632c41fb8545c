"""Run the manual's calculation through a service started for it, and check its energy.

setup/demo.sh calls this once everything is installed. LERULI_QUEUE_STEPS names a file with one line
"seconds<TAB>name" per step of the installation, for the table at the end.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table

CODE, VERSION = "psi4", "1.3.2"
EXPECTED_ENERGY = -76.24007988  # hartree; the manual's input in psi4 1.3.2 from Debian
TOLERANCE = 1e-6  # hartree
JOB_TIMEOUT = 300.0  # seconds; the calculation itself takes about 3
POLL_INTERVAL = 0.5  # seconds
INPUT = """\
molecule{
o
h 1 roh
h 1 roh 2 ahoh

roh = 0.957
ahoh = 104.5
}

set basis cc-pVDZ
set ccenergy print 3
set scf print 1
energy('ccsd')
"""
FINAL_STATES = ("completed", "failed", "cancelled")
_STATE = re.compile(r"\b(received|submitted|running|completed|failed|cancelled)\b")
_ENERGY = re.compile(r"^\s*\*?\s*CCSD total energy\s*=\s*(-?\d+\.\d+)\s*$", re.MULTILINE)

console = Console(highlight=False)


class DemoError(Exception):
    """The demo failed. The message says why."""


class Steps:
    """Duration of each step in s, those of the installation first."""

    def __init__(self, installed: Path | None) -> None:
        """Start with the steps in the file `installed`, if there is one."""
        self.taken: list[tuple[str, float]] = []
        if installed is not None and installed.is_file():
            for line in installed.read_text().splitlines():
                seconds, name = line.split("\t", 1)
                self.taken.append((name, float(seconds)))

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Print the name of a step, and record how long the block takes."""
        console.print(f"[bold]==>[/bold] {name}")
        began = time.monotonic()
        yield
        self.taken.append((name, time.monotonic() - began))

    def table(self) -> Table:
        """Return a table of all steps and their sum."""
        table = Table("step", title="Time of each step", title_justify="left")
        table.add_column("seconds", justify="right")
        for name, seconds in self.taken:
            table.add_row(name, f"{seconds:.1f}")
        table.add_section()
        table.add_row("all", f"{sum(seconds for _, seconds in self.taken):.1f}")
        return table


def find_energy(output: str) -> float:
    """Return the CCSD total energy (hartree) in psi4's output; raise DemoError if it has none."""
    found = _ENERGY.search(output)
    if found is None:
        raise DemoError("psi4's output.dat has no line 'CCSD total energy'")
    return float(found[1])


def find_state(answer: str) -> str:
    """Return the state in the output of `leruli task-status`; raise DemoError if it has none."""
    found = _STATE.search(answer)
    if found is None:
        raise DemoError(f"`leruli task-status` printed no state. It printed: {answer.strip()!r}")
    return found[1]


def sourced(script: Path) -> dict[str, str]:
    """Return the environment that a shell has after sourcing `script`."""
    out = subprocess.run(
        ["bash", "-c", 'set -ea; . "$1"; env -0', "bash", str(script)],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return dict(entry.split("=", 1) for entry in out.split("\0") if "=" in entry)


def run(command: list[str], env: dict[str, str], cwd: Path) -> None:
    """Run a command as a user would type it, with its output on the terminal.

    Raises
    ------
    DemoError
        If the exit code is not 0.
    """
    console.print(f"    $ {' '.join(command)}", style="cyan", markup=False, soft_wrap=True)
    sys.stdout.flush()
    # Do not read its output through a pipe: its background processes would keep the pipe open.
    done = subprocess.run(command, env=env, cwd=cwd, check=False, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise DemoError(f"`{' '.join(command)}` exited with code {done.returncode}; see above.")


def ask(command: list[str], env: dict[str, str], cwd: Path) -> str:
    """Run a command and return its standard output.

    Raises
    ------
    DemoError
        If the exit code is not 0; with the command's output.
    """
    done = subprocess.run(
        command,
        env=env,
        cwd=cwd,
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        said = (done.stderr + done.stdout).strip()
        raise DemoError(f"`{' '.join(command)}` exited with code {done.returncode}:\n{said}")
    return done.stdout


def wait_for_end(env: dict[str, str], cwd: Path) -> str:
    """Poll `leruli task-status`, print each change, and return the final state."""
    began = time.monotonic()
    last = ""
    console.print("    $ leruli task-status", style="cyan")
    while time.monotonic() - began < JOB_TIMEOUT:
        answer = ask(["leruli", "task-status"], env, cwd).strip()
        if answer != last:
            console.print(f"    {time.monotonic() - began:5.1f} s  {answer}", markup=False)
            last = answer
        state = find_state(answer)
        if state in FINAL_STATES:
            return state
        time.sleep(POLL_INTERVAL)
    raise DemoError(f"The job did not end within {JOB_TIMEOUT:.0f} s. Its last status: {last}")


def demonstrate(data: Path, steps: Steps) -> float:
    """Start the service with its data in `data`, run the calculation, and return its energy."""
    # Find the programs of this tree first, as in an activated environment.
    env = dict(os.environ)
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env.get('PATH', '')}"
    with steps.step("starting the service and its parts"):
        run(["leruli-queue", "up", "--detach", "--data", str(data)], env, data)
    env |= {
        name: value
        for name, value in sourced(data / "env.sh").items()
        if name.startswith("LERULI_")
    }
    with steps.step(f"publishing the image {CODE}:{VERSION} to the group's storage"):
        codes = ask(["leruli", "list-codes"], env, data)
        if re.search(rf"\b{CODE}\W+{re.escape(VERSION)}\b", codes):
            console.print(f"    {CODE} {VERSION} is already published")
        else:
            run(["leruli", "publish-code", CODE, VERSION], env, data)
    folder = Path(tempfile.mkdtemp(prefix="water-", dir=data))
    (folder / "input.dat").write_text(INPUT)
    with steps.step(f"submitting the folder {folder}"):
        run(["leruli", "task-submit", CODE, VERSION, "psi4", "input.dat"], env, folder)
    with steps.step("waiting for the calculation"):
        state = wait_for_end(env, folder)
    with steps.step("fetching the results"):
        run(["leruli", "task-get"], env, folder)
    if state != "completed":
        raise DemoError(f"The job ended as {state}. Its files are in {folder}.")
    output = folder / "output.dat"
    if not output.is_file():
        raise DemoError(f"The results in {folder} have no output.dat.")
    return find_energy(output.read_text())


def stop(data: Path) -> None:
    """Stop the service. Print a failure, but raise nothing, as an earlier error counts."""
    program = str(Path(sys.executable).parent / "leruli-queue")
    try:
        run([program, "down", "--data", str(data)], dict(os.environ), data)
    except (DemoError, OSError) as error:
        console.print(f"stopping the service failed: {error}", style="red", markup=False)


def main() -> int:
    """Run the demo; return 0 if the energy is as expected, else 1."""
    parser = argparse.ArgumentParser(description="Run the manual's calculation.")
    parser.add_argument("--data", type=Path, required=True, help="folder for all data")
    data: Path = parser.parse_args().data.absolute()
    data.mkdir(parents=True, exist_ok=True)
    noted = os.environ.get("LERULI_QUEUE_STEPS")
    steps = Steps(Path(noted) if noted else None)
    try:
        try:
            energy = demonstrate(data, steps)
        finally:
            with steps.step("stopping the service"):
                stop(data)
    except (DemoError, OSError, subprocess.CalledProcessError) as error:
        console.print("[red]error:[/red] the demo failed.")
        console.print(str(error), markup=False)
        logs = sorted(data.rglob("*.log"))
        if logs:
            console.print("The logs of the parts are:")
        for log in logs:
            console.print(f"    {log}", markup=False, soft_wrap=True)
        console.print("Correct the fault above, then run 'make demo' again.")
        return 1
    except KeyboardInterrupt:
        console.print("Stopped by Ctrl-C.")
        return 130
    console.print(steps.table())
    console.print(f"CCSD total energy  {energy:.8f} hartree")
    console.print(f"expected           {EXPECTED_ENERGY:.8f} hartree")
    if abs(energy - EXPECTED_ENERGY) > TOLERANCE:
        console.print(f"[red]error:[/red] They differ by more than {TOLERANCE:g} hartree.")
        return 1
    console.print("[green]They agree.[/green] To use this service and its data further:")
    console.print(f"    .venv/bin/leruli-queue up --data {data}", markup=False, soft_wrap=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
