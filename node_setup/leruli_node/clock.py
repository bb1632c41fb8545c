"""The clock of limits: nobody sets it, and it goes on while the machine is suspended."""

from __future__ import annotations

import os
import time
from pathlib import Path


def boottime() -> float:
    """Seconds since the machine was started, the time that it was suspended included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def wall_offset() -> float:
    """What the wall clock now shows more than `boottime`, in seconds."""
    return time.time() - boottime()


def process_start(pid: int) -> float | None:
    """When a process began, by `boottime`, to a hundredth of a second; None if it is not seen."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        # The name in parentheses may hold anything; the start is the 22nd field.
        ticks = int(text.rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None
    return ticks / os.sysconf("SC_CLK_TCK")
