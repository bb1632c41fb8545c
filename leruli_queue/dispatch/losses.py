"""Gives up attempts, those of each group in a transaction of their own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from leruli_queue.dispatch.setbacks import Setbacks
from leruli_queue.jobs.giving_up import Loss, give_up
from leruli_queue.jobs.retries import Retries
from leruli_queue.store.pool import Pool


class Losses:
    """Gives up attempts. A group for which that failed waits, and the others do not."""

    def __init__(self, pool: Pool, retries: Retries, setbacks: Setbacks) -> None:
        self._pool = pool
        self._retries = retries
        # By group id.
        self._setbacks = setbacks

    async def give_up(self, losses: Iterable[tuple[int, Loss]]) -> None:
        """Give up the attempts of these losses, each with the id of its group."""
        by_group: defaultdict[int, list[Loss]] = defaultdict(list)
        for group_id, loss in losses:
            by_group[group_id].append(loss)
        for group_id in by_group.keys() - self._setbacks.held():
            with self._setbacks.apart(group_id, "giving up"):
                await give_up(self._pool, by_group[group_id], self._retries)
