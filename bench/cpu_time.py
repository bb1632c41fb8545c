"""CPU time by part of the stack, exact even for processes that live for milliseconds.

The kernel's scheduler reports every time slice of a thread (`sched_stat_runtime`), and perf reports
every new process. So each slice is counted for the part from which its process descends.
A container needs a dozen processes within 0.1 s; sampling and `/proc` miss or miscount them.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from leruli_queue.errors import SetupError

NODE = "node"
KERNEL = "kernel's threads (disk)"
INSIDE = "in the container"
OTHER = "other"
_TRACEFS = Path("/sys/kernel/tracing")
_FORK = re.compile(r"PERF_RECORD_FORK\((\d+):(\d+)\):\((\d+):\d+\)")
_COMM = re.compile(r"PERF_RECORD_COMM(?: exec)?: (.*):(\d+)/(\d+)\s*$")
_SLICE = re.compile(r"^\s*.*?\s+(-?\d+)/(-?\d+)\s.*comm=(.*) pid=(\d+) runtime=(\d+)")
_KTHREADD = 2
# Docker's programs, independent of their parent.
_DOCKER = {
    "exe": "Docker: hook of libnetwork, start of runc's child",
    "runc": "Docker: runc",
    "containerd-shim": "Docker: containerd-shim",
    "containerd": "Docker: containerd",
    "dockerd": "Docker: dockerd",
    "docker": "Docker: docker run",
}


@contextmanager
def recorded(data: Path) -> Iterator[None]:
    """Record the whole machine inside the block.

    Raises
    ------
    SetupError
        If perf cannot record. It needs root, Debian's linux-perf and the kernel's trace points.
    """
    if not (_TRACEFS / "events").is_dir():
        raise SetupError(
            f"There are no trace points of the kernel at {_TRACEFS}. As root: "
            f"mount -t tracefs nodev {_TRACEFS}"
        )
    command = ["perf", "record", "-a", "-e", "sched:sched_stat_runtime", "-N", "-o", str(data)]
    try:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    except OSError as error:
        raise SetupError("perf is not installed. On Debian: apt install linux-perf") from error
    try:
        time.sleep(0.5)
        yield
    finally:
        process.terminate()
        errors = process.communicate()[1]
    if not data.exists():
        raise SetupError(f"perf recorded nothing: {errors.decode(errors='replace').strip()}")


def by_part(data: Path, parts: Mapping[str, int]) -> dict[str, float]:
    """Return the CPU time of each part in a recording, in s; the rest is under OTHER."""
    done = subprocess.run(
        [
            *("perf", "script", "-i", str(data), "--show-task-events"),
            *("-F", "comm,pid,tid,time,trace"),
        ],
        capture_output=True,
        check=True,
        text=True,
        errors="replace",
    )
    return account(done.stdout.splitlines(), parts)


def account(lines: Iterable[str], parts: Mapping[str, int]) -> dict[str, float]:
    """Sum the slices in the output of `perf script` by part, in s."""
    tree = _Tree(parts)
    seconds: defaultdict[str, float] = defaultdict(float)
    for line in lines:
        if found := _FORK.search(line):
            tree.fork(*(int(number) for number in found.groups()))
        elif found := _COMM.search(line):
            tree.name(found[1], int(found[2]), int(found[3]))
        elif found := _SLICE.match(line):
            process, thread, name, ran, nanoseconds = found.groups()
            # Sometimes the waking thread records the slice of the thread that it woke.
            known = int(process) if thread == ran else None
            seconds[tree.part(int(ran), known, name)] += int(nanoseconds) / 1e9
    return seconds


class _Tree:
    """Parent and name of each process."""

    def __init__(self, parts: Mapping[str, int]) -> None:
        self._parts = {pid: part for part, pid in parts.items()}
        self._parents: dict[int, int] = {}
        self._names: dict[int, str] = {}
        self._processes: dict[int, int] = {}

    def fork(self, process: int, thread: int, parent: int) -> None:
        self._processes[thread] = process
        if process != parent:
            self._parents[process] = parent
            self._names[process] = self._names.get(parent, "")

    def name(self, name: str, process: int, thread: int) -> None:
        if process == thread:
            self._names[process] = name

    def part(self, thread: int, process: int | None, name: str) -> str:
        if process is None:
            process = self._processes.get(thread, thread)
        self._processes[thread] = process
        name = self._names.get(process, name)
        line = [process]
        while (parent := self._parents.get(line[-1], 0)) > 0 and parent not in line:
            line.append(parent)
        if _KTHREADD in line:
            return KERNEL
        for own, part in _DOCKER.items():
            if name == own or (own in ("runc", "containerd-shim") and name.startswith(own)):
                return part
        if any(self._names.get(pid, "").startswith("containerd-shim") for pid in line):
            return INSIDE
        root = next((self._parts[pid] for pid in line if pid in self._parts), None)
        if root != NODE:
            return root or OTHER
        if self._parts.get(process) == NODE:
            return "node agent"
        return {"nomad": "Nomad's client", "leruli": "task driver"}.get(name, f"node: {name}")
