"""The machine of a measurement; no figure means anything without it."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from leruli_queue.embedded.programs import Programs

_LIBRARIES = ("fastapi", "uvicorn", "pydantic", "asyncpg", "uvloop")


@dataclass(frozen=True)
class Machine:
    """A machine, and its load before the first measurement."""

    name: str
    processor: str
    cores: int
    memory_gib: float
    kernel: str
    system: str
    # File system and device of the folder to which everything is written.
    disk: str
    load_before: tuple[float, float, float]
    versions: dict[str, str]

    def lines(self) -> list[str]:
        """Return the description as lines for people."""
        load = " ".join(f"{value:.2f}" for value in self.load_before)
        return [
            f"{self.name}: {self.cores} cores ({self.processor}), {self.memory_gib:.0f} GiB",
            f"{self.system}, Linux {self.kernel}, written to {self.disk}",
            f"load average before: {load}",
            "; ".join(f"{name} {text}" for name, text in self.versions.items()),
        ]

    def as_dict(self) -> dict[str, object]:
        """Return the description for a JSON file."""
        return asdict(self)


def describe(folder: Path, programs: Programs, peers: dict[str, str]) -> Machine:
    """Describe this machine; ``peers`` has the version of each installed peer by its name."""
    return Machine(
        name=platform.node(),
        processor=_field(Path("/proc/cpuinfo"), "model name") or platform.machine(),
        cores=len(os.sched_getaffinity(0)),
        memory_gib=int((_field(Path("/proc/meminfo"), "MemTotal") or "0").split()[0]) / 2**20,
        kernel=platform.release(),
        system=platform.freedesktop_os_release().get("PRETTY_NAME", "Linux"),
        disk=_output("findmnt", "--noheadings", "--output=FSTYPE,SOURCE", "--target", str(folder)),
        load_before=os.getloadavg(),
        versions={
            "leruli-queue": _revision(),
            "Python": platform.python_version(),
            "PostgreSQL": _output(str(programs.postgres_bin / "postgres"), "--version").split()[-1],
            "Nomad": _output(str(programs.nomad), "version").split()[1].lstrip("v"),
            **{library: version(library) for library in _LIBRARIES},
            **peers,
        },
    )


def load_now() -> float:
    """Return the load average of the last minute."""
    return os.getloadavg()[0]


def _revision() -> str:
    """Return the commit of the tree, with a + if tracked files differ from it."""
    here = str(Path(__file__).parent)
    commit = _output("git", "-C", here, "rev-parse", "--short", "HEAD")
    changed = _output("git", "-C", here, "status", "--porcelain", "--untracked-files=no")
    return f"{commit or version('leruli-queue')}{'+' if changed else ''}"


def _output(*command: str) -> str:
    """Return a program's output as one line; empty if the program is missing or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return ""
    return " ".join(done.stdout.split())


def _field(path: Path, name: str) -> str | None:
    for line in path.read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return None
