"""How many dispatched jobs may wait for a place in Nomad when nothing is free.

Every freed slot makes Nomad look again at all that wait, so few should; but a slot must not stay
free until the next dispatch. Twice what is placed in a second is enough for both
(about 1 s passes between a slot becoming free and the next dispatch arriving). One that has its
place does not wait, however long image and input take there.

It is counted for each shape (cores and memory) of a group's jobs: a few wide jobs that wait for a
large machine must not keep the small ones out of the machines that are free.
"""

from __future__ import annotations

import time
from collections import deque

_OVER_S = 10.0


class Window:
    """The window of one group, from how fast its jobs were seen to find a place."""

    def __init__(self, smallest: int, largest: int) -> None:
        self._smallest = smallest
        self._largest = largest
        self._starts: deque[tuple[float, int]] = deque()
        self._waiting_after = 0

    def size(self, waiting: int, *, now: float | None = None) -> int:
        """Return how many may wait.

        Parameters
        ----------
        waiting
            How many of the group's wait for a place now.
        now
            Seconds of a monotonic clock; only tests give it.
        """
        now = time.monotonic() if now is None else now
        started = max(0, self._waiting_after - waiting)
        if started:
            self._starts.append((now, started))
        while self._starts and self._starts[0][0] < now - _OVER_S:
            self._starts.popleft()
        a_second = sum(count for _, count in self._starts) / _OVER_S
        self._waiting_after = waiting
        return min(self._largest, max(self._smallest, round(2 * a_second)))

    def dispatched(self, count: int) -> None:
        """Note that so many were dispatched after the last look."""
        self._waiting_after += count
