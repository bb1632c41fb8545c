"""The clock for time limits: nobody sets it, and it also counts while the machine is suspended."""

from __future__ import annotations

import os
import time
from pathlib import Path


def boottime() -> float:
    """Return the seconds since the machine was started, including suspended time."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def wall_offset() -> float:
    """Return the difference of wall clock and `boottime`, in seconds."""
    return time.time() - boottime()


def process_start(pid: int) -> float | None:
    """Return the start of a process by `boottime`, to 0.01 s; None if /proc does not show it."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        # The name in parentheses can contain any character. The start is the 22nd field.
        ticks = int(text.rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None
    return ticks / os.sysconf("SC_CLK_TCK")
