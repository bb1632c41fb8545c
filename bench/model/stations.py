"""Where work waits: servers with one queue."""

from __future__ import annotations

import heapq


class Station:
    """A number of equal servers that take what comes in the order in which it comes."""

    def __init__(self, servers: int) -> None:
        self._free_at = [0.0] * servers
        self.busy_s = 0.0

    def take(self, arrival: float, service_s: float) -> float:
        """Serve what arrives now; return when it is done. Arrivals have to be in order of time."""
        begin = max(arrival, self._free_at[0])
        done = begin + service_s
        heapq.heapreplace(self._free_at, done)
        self.busy_s += service_s
        return done

    @property
    def servers(self) -> int:
        """How many there are."""
        return len(self._free_at)
