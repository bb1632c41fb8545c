"""How many dispatched attempts of a group may be unplaced in Nomad when nothing is free.

Each freed slot makes Nomad examine all unplaced jobs again, so there should be few. But a slot must
not stay free until the next dispatch. Twice the number that is placed in a second is enough for
both: about 1 s passes between a slot becoming free and the arrival of the next dispatch. An attempt
that has its place does not count, however long image and input take there.

The window is counted for each combination of cores and memory. A few wide jobs that wait for a
large machine must not keep the small ones out of the machines that are free.
"""

from __future__ import annotations

import time
from collections import deque

_OVER_S = 10.0


class Window:
    """The window of one group, derived from the rate at which its attempts were placed."""

    def __init__(self, smallest: int, largest: int) -> None:
        self._smallest = smallest
        self._largest = largest
        self._placements: deque[tuple[float, int]] = deque()
        self._unplaced_after = 0

    def size(self, unplaced: int, *, now: float | None = None) -> int:
        """Return how many attempts may be unplaced.

        Parameters
        ----------
        unplaced
            How many attempts of the group are unplaced now.
        now
            Seconds of a monotonic clock; only tests give it.
        """
        now = time.monotonic() if now is None else now
        placed = max(0, self._unplaced_after - unplaced)
        if placed:
            self._placements.append((now, placed))
        while self._placements and self._placements[0][0] < now - _OVER_S:
            self._placements.popleft()
        a_second = sum(count for _, count in self._placements) / _OVER_S
        self._unplaced_after = unplaced
        return min(self._largest, max(self._smallest, round(2 * a_second)))

    def dispatched(self, count: int) -> None:
        """Add attempts that were dispatched since the last call of :meth:`size`."""
        self._unplaced_after += count
