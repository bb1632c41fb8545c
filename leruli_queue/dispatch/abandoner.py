"""Abandons attempts, those of each group in a transaction of their own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from leruli_queue.dispatch.setbacks import Setbacks
from leruli_queue.jobs.abandon import Abandonment, abandon
from leruli_queue.jobs.retries import Retries
from leruli_queue.store.pool import Pool


class Abandoner:
    """Abandons attempts. A group for which that failed is paused, the others are not."""

    def __init__(self, pool: Pool, retries: Retries, setbacks: Setbacks) -> None:
        self._pool = pool
        self._retries = retries
        # By group id.
        self._setbacks = setbacks

    async def abandon(self, abandonments: Iterable[tuple[int, Abandonment]]) -> None:
        """Abandon attempts, each given with the id of its group."""
        by_group: defaultdict[int, list[Abandonment]] = defaultdict(list)
        for group_id, abandonment in abandonments:
            by_group[group_id].append(abandonment)
        for group_id in by_group.keys() - self._setbacks.paused():
            with self._setbacks.isolate(group_id, "abandoning"):
                await abandon(self._pool, by_group[group_id], self._retries)
