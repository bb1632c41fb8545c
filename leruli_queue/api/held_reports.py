"""The reports of nodes that wait for an answer in this process, at most one of each node."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID
from weakref import WeakSet

from leruli_queue.nodes.report import NODE_NEWS
from leruli_queue.store.listening import Listener, Waiter


class HeldReport:
    """A report that may wait.

    Attributes
    ----------
    must_end
        Whether it must be answered now, news or not: the node sent another, or the server ends.
    """

    def __init__(self, waiter: Waiter) -> None:
        self._waiter = waiter
        self.must_end = False

    def end(self) -> None:
        """Have it answered now."""
        self.must_end = True
        self._waiter.wake()

    async def wait(self, seconds: float) -> bool:
        """Wait for news of the node, at most this long. Return whether there may be some."""
        return await self._waiter.wait(seconds)


class HeldReports:
    """The reports of one process that wait."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._latest: dict[UUID, HeldReport] = {}
        _all.add(self)

    @contextmanager
    def one(self, node_id: UUID) -> Iterator[HeldReport]:
        """Be the latest report of a node. An earlier one that waits is answered now."""
        earlier = self._latest.get(node_id)
        if earlier is not None:
            earlier.end()
        with self._listener.waiting(NODE_NEWS, str(node_id)) as waiter:
            report = self._latest[node_id] = HeldReport(waiter)
            try:
                yield report
            finally:
                if self._latest.get(node_id) is report:
                    del self._latest[node_id]

    def end_all(self) -> None:
        """Have every report that waits answered now."""
        for report in list(self._latest.values()):
            report.end()


_all: WeakSet[HeldReports] = WeakSet()


def answer_held_reports() -> None:
    """Have the waiting reports of this process answered: it is about to end."""
    for held in _all:
        held.end_all()
