"""Run the manual's calculation through a service started for it, and check the energy it finds.

Called by setup/demo.sh once everything is installed. Reads LERULI_QUEUE_STEPS, a file with one line
"seconds<TAB>name" for each step of the installation, for the table at the end.
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
    """The demo cannot go on; the message says what happened."""


class Steps:
    """How long each step took, in seconds, those of the installation first."""

    def __init__(self, installed: Path | None) -> None:
        """Start with the steps noted in the file `installed`, if there is one."""
        self.taken: list[tuple[str, float]] = []
        if installed is not None and installed.is_file():
            for line in installed.read_text().splitlines():
                seconds, name = line.split("\t", 1)
                self.taken.append((name, float(seconds)))

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Tell what is done now, and note how long it took."""
        console.print(f"[bold]==>[/bold] {name}")
        began = time.monotonic()
        yield
        self.taken.append((name, time.monotonic() - began))

    def table(self) -> Table:
        """Every step and the sum."""
        table = Table("step", title="What took how long", title_justify="left")
        table.add_column("seconds", justify="right")
        for name, seconds in self.taken:
            table.add_row(name, f"{seconds:.1f}")
        table.add_section()
        table.add_row("all", f"{sum(seconds for _, seconds in self.taken):.1f}")
        return table


def find_energy(output: str) -> float:
    """Take the CCSD total energy (hartree) from psi4's output; DemoError if it has none."""
    found = _ENERGY.search(output)
    if found is None:
        raise DemoError("psi4's output.dat has no line 'CCSD total energy'")
    return float(found[1])


def find_state(answer: str) -> str:
    """Take the state from what `leruli task-status` printed; DemoError if it has none."""
    found = _STATE.search(answer)
    if found is None:
        raise DemoError(f"leruli task-status printed no state, but: {answer.strip()!r}")
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
    """Run a command as a user would type it; what it prints is shown as it comes.

    Raises DemoError when it exits with another code than 0.
    """
    console.print(f"    $ {' '.join(command)}", style="cyan", markup=False, soft_wrap=True)
    sys.stdout.flush()
    # Its output is not read through a pipe: what it leaves running would keep that open.
    done = subprocess.run(command, env=env, cwd=cwd, check=False, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise DemoError(f"`{' '.join(command)}` exited with code {done.returncode}; see above.")


def ask(command: list[str], env: dict[str, str], cwd: Path) -> str:
    """Run a command and return its standard output.

    Raises DemoError, with what the command printed, when it exits with another code than 0.
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
    """Poll `leruli task-status`, print each change, return the final state."""
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
    raise DemoError(f"the job did not end within {JOB_TIMEOUT:.0f} s; last status: {last}")


def demonstrate(data: Path, steps: Steps) -> float:
    """Start the service with its data in `data`, run the calculation, return its energy."""
    # The programs of this tree's environment, as in an activated one.
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
            console.print(f"    {CODE} {VERSION} is published already")
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
        raise DemoError(f"the job ended as {state}; what it left is in {folder}")
    output = folder / "output.dat"
    if not output.is_file():
        raise DemoError(f"the job brought no output.dat back to {folder}")
    return find_energy(output.read_text())


def stop(data: Path) -> None:
    """Stop the service; say so when that fails, but let the first error be the one that counts."""
    program = str(Path(sys.executable).parent / "leruli-queue")
    try:
        run([program, "down", "--data", str(data)], dict(os.environ), data)
    except (DemoError, OSError) as error:
        console.print(f"stopping the service failed: {error}", style="red", markup=False)


def main() -> int:
    """Run the demo; exit code 0 when the energy is the expected one."""
    parser = argparse.ArgumentParser(description="Run the manual's calculation.")
    parser.add_argument("--data", type=Path, required=True, help="folder for everything it keeps")
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
            console.print("What each part had to say is in its log:")
        for log in logs:
            console.print(f"    {log}", markup=False, soft_wrap=True)
        console.print("Put right what is said above, then run 'make demo' again.")
        return 1
    except KeyboardInterrupt:
        console.print("Stopped at your wish.")
        return 130
    console.print(steps.table())
    console.print(f"CCSD total energy  {energy:.8f} hartree")
    console.print(f"expected           {EXPECTED_ENERGY:.8f} hartree")
    if abs(energy - EXPECTED_ENERGY) > TOLERANCE:
        console.print(f"[red]error:[/red] they differ by more than {TOLERANCE:g} hartree.")
        return 1
    console.print("[green]They agree.[/green] To go on with this service and its data:")
    console.print(f"    .venv/bin/leruli-queue up --data {data}", markup=False, soft_wrap=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
