"""A limited resource that threads share in the order in which they asked."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from leruli_node.errors import StoppedError
from leruli_node.retry import Stop

# Seconds between two checks whether to stop, while waiting.
_POLL = 0.5


class FairPool:
    """A number of units, given out first come, first served, so that nobody waits for ever."""

    def __init__(self, total: int) -> None:
        self.total = total
        self._free = total
        self._queue: deque[object] = deque()
        self._changed = threading.Condition()

    @contextmanager
    def reserved(self, amount: int, stop: Stop) -> Iterator[None]:
        """Hold `amount` units within the block; all units if `amount` is more than there are.

        One thread must not reserve twice.

        Raises
        ------
        StoppedError
            `stop` was set while waiting.
        """
        amount = min(amount, self.total)
        ticket = object()
        with self._changed:
            self._queue.append(ticket)
            try:
                while self._queue[0] is not ticket or self._free < amount:
                    if stop.is_set():
                        raise StoppedError
                    self._changed.wait(_POLL)
                self._free -= amount
            finally:
                self._queue.remove(ticket)
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._free += amount
                self._changed.notify_all()
