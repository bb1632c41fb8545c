"""Something that there is so much of, shared by threads in the order in which they asked."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from leruli_node.errors import StoppedError
from leruli_node.retry import Stop

# How often one who waits looks whether to stop, in seconds.
_POLL = 0.5


class FairPool:
    """A number of units; who asked first gets first, so that nobody waits for ever."""

    def __init__(self, total: int) -> None:
        self.total = total
        self._free = total
        self._queue: deque[object] = deque()
        self._changed = threading.Condition()

    @contextmanager
    def reserved(self, amount: int, stop: Stop) -> Iterator[None]:
        """Hold `amount` units within the block; of more than there are, all.

        Raises StoppedError when to stop while waiting. One thread must not reserve twice.
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
