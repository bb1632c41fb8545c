"""Memory of our parts, at rest and at most."""

from __future__ import annotations

import threading
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from soak.stack import SoakStack

PARTS = ("node", "service", "dispatcher")
_EVERY_S = 0.5


@dataclass(frozen=True)
class Peak:
    """Memory of a part, in MB (2**20 bytes)."""

    # Resident when the run began.
    rest_mb: float
    # The most of any of its processes; a killed part gets a new process.
    most_mb: float


class MemoryWatch:
    """A thread that reads the kernel's peak memory of each process until `stop`."""

    def __init__(self, stack: SoakStack) -> None:
        self._stack = stack
        self._rest = {part: self._read(part, "VmRSS") or 0.0 for part in PARTS}
        self._most: defaultdict[str, float] = defaultdict(float)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="memory", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> dict[str, Peak]:
        """Stop, and return the peaks."""
        self._stop.set()
        self._thread.join()
        return {part: Peak(self._rest[part], self._most[part]) for part in PARTS}

    def _run(self) -> None:
        while not self._stop.wait(_EVERY_S):
            for part in PARTS:
                self._most[part] = max(self._most[part], self._read(part, "VmHWM") or 0.0)

    def _read(self, part: str, name: str) -> float | None:
        pid = self._stack.pid_of(part)
        with suppress(OSError, ValueError):
            for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
                if line.startswith(f"{name}:"):
                    return int(line.split()[1]) / 1024
        return None
