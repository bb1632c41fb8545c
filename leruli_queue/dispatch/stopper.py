"""The stopper: ends in Nomad what was cancelled or given up.

Whoever decides that an allocation has to go writes ``stop_requested_at`` in the same statement as
the decision; it is done here, as often as it takes.
"""

from __future__ import annotations

import asyncio

from leruli_queue.nomad.gateway import NomadGateway
from leruli_queue.store.pool import Pool
from leruli_queue.store.queries import queries, rows

_LOOK_EVERY_S = 0.5
_AT_ONCE = 4
_BATCH = 200


class Stopper:
    """Stops the children in Nomad whose attempts are over."""

    def __init__(self, pool: Pool, gateway: NomadGateway) -> None:
        self._pool = pool
        self._gateway = gateway

    async def run(self) -> None:
        """Stop for ever."""
        while True:
            if not await self.stop_once():
                await asyncio.sleep(_LOOK_EVERY_S)

    async def stop_once(self) -> int:
        """Stop what has to be stopped now; return how many.

        Raises
        ------
        NomadError
            When one could not be stopped; it does not keep the others from it.
        """
        found = await rows(
            queries.attempts_to_stop(self._pool, cluster=self._gateway.cluster.name, limit=_BATCH)
        )
        places = asyncio.Semaphore(_AT_ONCE)

        async def stop(nomad_job_id: str, **attempt: object) -> None:
            async with places:
                await self._gateway.stop_job(nomad_job_id)
                await queries.note_stopped(self._pool, **attempt)

        results = await asyncio.gather(*(stop(**row) for row in found), return_exceptions=True)
        for failure in filter(None, results):
            raise failure
        return len(found)
