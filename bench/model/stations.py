"""Station of a queueing model: equal servers with one queue."""

from __future__ import annotations

import heapq


class Station:
    """Equal servers that serve arrivals in order (first in, first out)."""

    def __init__(self, servers: int) -> None:
        self._free_at = [0.0] * servers
        self.busy_s = 0.0

    def take(self, arrival: float, service_s: float) -> float:
        """Serve an arrival; return when it is done, in s. Call in the order of arrival times."""
        begin = max(arrival, self._free_at[0])
        done = begin + service_s
        heapq.heapreplace(self._free_at, done)
        self.busy_s += service_s
        return done

    @property
    def servers(self) -> int:
        """Number of servers."""
        return len(self._free_at)
