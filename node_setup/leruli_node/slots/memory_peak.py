"""The peak of memory that a container's cgroup notes, counted from the start of each job.

Version 1 lets root reset it. In version 2 each opened file counts from its own reset (Linux 6.12).
Where neither works, the peak counts from the start of the container.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import BinaryIO

_CGROUPS = Path("/sys/fs/cgroup")


class MemoryPeak:
    """The peak of the cgroup of one process."""

    def __init__(self, pid: int) -> None:
        self._file: BinaryIO | None = None
        with contextlib.suppress(OSError, ValueError):
            self._file = _peak_file(pid).open("r+b", buffering=0)

    def reset(self) -> bool:
        """Count from now on. Return whether that worked."""
        if self._file is None:
            return False
        try:
            self._file.seek(0)
            self._file.write(b"0\n")
            return True
        except OSError:
            self.close()
            return False

    def read(self) -> int | None:
        """Return the peak in bytes since the last reset, None if that is not known."""
        if self._file is None:
            return None
        try:
            self._file.seek(0)
            return int(self._file.read(32))
        except (OSError, ValueError):
            self.close()
            return None

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _peak_file(pid: int) -> Path:
    """Return the file of a process's cgroup. Raises OSError and ValueError."""
    unified = None
    for line in Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8").splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            return _CGROUPS / "memory" / path.lstrip("/") / "memory.max_usage_in_bytes"
        if not controllers:
            unified = path
    if unified is None:
        raise ValueError("no cgroup of memory")
    return _CGROUPS / unified.lstrip("/") / "memory.peak"
