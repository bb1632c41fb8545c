"""The memory of a container's cgroup: its peak from the start of each job, and without page cache.

Version 1 lets root reset it. In version 2 each opened file counts from its own reset (Linux 6.12).
Where neither works, the peak counts from the start of the container. No version notes a peak
without page cache, so that is sampled.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_CGROUPS = Path("/sys/fs/cgroup")
_PROCESSES = Path("/proc")


class MemoryPeak:
    """The peak of the cgroup of one process."""

    def __init__(self, pid: int) -> None:
        self._file: BinaryIO | None = None
        self._cgroup: _Cgroup | None = None
        with contextlib.suppress(OSError, ValueError):
            self._cgroup = _cgroup_of(pid)
            self._file = self._cgroup.peak.open("r+b", buffering=0)

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

    def cache(self) -> int | None:
        """Return the page cache that counts as the cgroup's, in bytes; None if it is not known."""
        try:
            text = self._cgroup.parts.read_text(encoding="ascii") if self._cgroup else ""
            parts = dict(line.split(" ", 1) for line in text.splitlines())
            return int(parts["active_file"]) + int(parts["inactive_file"])
        except (OSError, ValueError, KeyError):
            return None

    def without_cache(self) -> int | None:
        """Return the present memory without page cache, in bytes; None if it is not known."""
        cache = self.cache()
        if cache is None or self._cgroup is None:
            return None
        try:
            return max(0, int(self._cgroup.usage.read_text(encoding="ascii")) - cache)
        except (OSError, ValueError):
            return None

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


@dataclass(frozen=True)
class _Cgroup:
    """The files of a cgroup."""

    peak: Path
    usage: Path
    parts: Path


def _cgroup_of(pid: int) -> _Cgroup:
    """Return the cgroup of a process. Raises OSError and ValueError."""
    unified = None
    for line in (_PROCESSES / str(pid) / "cgroup").read_text(encoding="utf-8").splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            folder = _CGROUPS / "memory" / path.lstrip("/")
            peak, usage = folder / "memory.max_usage_in_bytes", folder / "memory.usage_in_bytes"
            return _Cgroup(peak, usage, folder / "memory.stat")
        if not controllers:
            unified = path
    if unified is None:
        raise ValueError("no cgroup of memory")
    folder = _CGROUPS / unified.lstrip("/")
    return _Cgroup(folder / "memory.peak", folder / "memory.current", folder / "memory.stat")
