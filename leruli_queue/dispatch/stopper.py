"""The stopper: stops child jobs in Nomad whose attempts were cancelled or abandoned.

The statement that cancels or abandons an attempt also sets ``stop_requested_at``. The stopper acts
on it, and repeats the call until it succeeds. Attempts of one slot share a child job. When one of
them is stopped, the node ends that one only, and then the slot (docs/developers/attempts.md).
"""

from __future__ import annotations

import asyncio
from uuid import UUID

from leruli_queue.nomad.gateway import NomadGateway
from leruli_queue.store.pool import Pool
from leruli_queue.store.queries import queries, rows

_POLL_EVERY_S = 0.5
_AT_ONCE = 4
_BATCH = 200


class Stopper:
    """Stops the child jobs in Nomad whose attempts are over."""

    def __init__(self, pool: Pool, gateway: NomadGateway) -> None:
        self._pool = pool
        self._gateway = gateway

    async def run(self) -> None:
        """Stop for ever."""
        while True:
            if not await self.stop_once():
                await asyncio.sleep(_POLL_EVERY_S)

    async def stop_once(self) -> int:
        """Stop the child jobs for which a stop is requested; return how many.

        Raises
        ------
        NomadError
            When one could not be stopped. The others are stopped all the same.
        """
        found = await rows(
            queries.attempts_to_stop(self._pool, cluster=self._gateway.cluster.name, limit=_BATCH)
        )
        places = asyncio.Semaphore(_AT_ONCE)

        async def stop(nomad_job_id: str | None, job_id: UUID, number: int) -> None:
            async with places:
                # None: other attempts of its slot go on under the child job.
                if nomad_job_id:
                    await self._gateway.stop_job(nomad_job_id)
                await queries.note_stopped(
                    self._pool, job_id=job_id, number=number, child=nomad_job_id is not None
                )

        results = await asyncio.gather(*(stop(**row) for row in found), return_exceptions=True)
        for failure in filter(None, results):
            raise failure
        return len(found)
