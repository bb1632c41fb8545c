"""CPU time of each part of a stack."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process and its descendants, in s, with those that ended."""
    return sum(_own_ticks(member) for member in _tree(pid)) / _TICKS


def used(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """Return the CPU time of each part between two samples, in s."""
    return {part: after[part] - before[part] for part in after}


def _tree(pid: int) -> Iterator[int]:
    yield pid
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
    except (FileNotFoundError, ProcessLookupError):
        return
    for thread in threads:
        try:
            children = (thread / "children").read_text(encoding="ascii").split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        for child in children:
            yield from _tree(int(child))


def _own_ticks(pid: int) -> int:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return 0  # The process ended, and its parent's counters now include it.
    fields = stat.rpartition(")")[2].split()
    # utime, stime, cutime, cstime: its own time, and that of children that it waited for.
    return sum(int(field) for field in fields[11:15])
