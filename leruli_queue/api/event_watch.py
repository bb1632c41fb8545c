"""Watches for new events, for all calls of a process that wait for some.

One small statement every 0.2 s, while a call waits. NOTIFY is not used: transactions that notify
commit one after the other, which slows receipts down by half (docs/developers/events.md).
"""

from __future__ import annotations

import asyncio

import structlog

from leruli_queue.api.waiting import Bells
from leruli_queue.jobs.events import begin, users_with_new_events
from leruli_queue.store.pool import DATABASE_AWAY, Pool

log = structlog.get_logger(__name__)

_EVERY_S = 0.2
_AGAIN_S = 1.0


class EventWatch:
    """Rings the bells of users that have new events."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.bells = Bells()

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            try:
                await self._watch()
            except DATABASE_AWAY as error:
                log.warning("waiting calls hear of no events", why=type(error).__name__)
                await asyncio.sleep(_AGAIN_S)

    async def _watch(self) -> None:
        xid: int | None = None
        while True:
            await asyncio.sleep(_EVERY_S)
            if not self.bells:
                xid = None
            elif xid is None:
                xid = (await begin(self._pool)).cursor.xid
                # Calls that have read before that may have missed something.
                self.bells.ring_all()
            else:
                user_ids, xid = await users_with_new_events(self._pool, xid)
                self.bells.ring(user_ids)
