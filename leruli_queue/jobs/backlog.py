"""How many jobs of a group may wait: what keeps a backlog that nothing drains from filling a disk.

A Nomad that is slow or away holds up no submit: jobs wait in PostgreSQL, where a million of them
cost nothing but room. That room has an end, and a group that reaches its own is told to come again.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from leruli_queue.errors import UserReportableError
from leruli_queue.store.pool import Connection
from leruli_queue.store.queries import queries

_COME_AGAIN_S = 60
# Counting a million takes a tenth of a second. So it is not done for each submit, but when the last
# count is older than this, and than so many times what that took.
_COUNT_EVERY_S = 1.0
_COUNT_SHARE = 50
# Beyond the bound, so that a refusal tells what a post took above it.
_COUNT_FURTHER = 1000


@dataclass
class _Count:
    """Jobs of a group that wait, as one process knows it."""

    waiting: int
    good_until: float


class Backlog:
    """Refuses jobs of groups of which too many wait already.

    The bound is soft. While there is room for one more a post is taken whole: a client repeats what
    was refused as it was, and would wait for ever where its posts are larger than the bound. And
    what other copies took in since the last count is not in it.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._counts: dict[int, _Count] = {}

    async def make_room(self, connection: Connection, jobs: Mapping[int, int]) -> None:
        """Return if each group may have a post of so many jobs more.

        Raises
        ------
        UserReportableError
            503 when not: the client comes again.
        """
        for group_id in jobs:
            await self._count(connection, group_id)
        # From here on without a pause: of posts that come together, one sees what the other takes.
        counts = {group_id: self._counts[group_id] for group_id in jobs}
        for count in counts.values():
            if count.waiting >= self._most:
                raise UserReportableError(
                    f"The group has {count.waiting} jobs waiting, and no more than {self._most} "
                    "may wait. Nothing was taken or lost; try again when some have started, or "
                    "cancel some.",
                    status=503,
                    retry_after=_COME_AGAIN_S,
                )
        for group_id, count in counts.items():
            count.waiting += jobs[group_id]

    async def _count(self, connection: Connection, group_id: int) -> None:
        began = time.monotonic()
        known = self._counts.get(group_id)
        if known is None or known.good_until < began:
            waiting = await queries.count_waiting(
                connection, group_id=group_id, most=self._most + _COUNT_FURTHER
            )
            now = time.monotonic()
            good_for = max(_COUNT_EVERY_S, _COUNT_SHARE * (now - began))
            self._counts[group_id] = _Count(waiting, now + good_for)
