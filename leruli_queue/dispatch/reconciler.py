"""The reconciler: compares the database with Nomad's lists.

The database says what should be; Nomad's lists say what is.

=================================================  ==========================================
should be / is                                     done
=================================================  ==========================================
in flight / in Nomad, alive or over                its allocation is noted as an event would be
started / not in Nomad for a minute                the time for its receipt begins
not started / not in Nomad for a minute, or dead   given up
without any allocation
not in flight / alive in Nomad                     stopped there
=================================================  ==========================================

Nomad lists what is alive. It is asked singly only about attempts in flight that are not in these
lists. So the jobs that Nomad keeps after their end cost neither side anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any

import structlog

from leruli_queue.dispatch.asking import few_at_once
from leruli_queue.dispatch.losses import Losses
from leruli_queue.dispatch.notes import note_observations
from leruli_queue.dispatch.observations import observe
from leruli_queue.jobs.attempts import AttemptId
from leruli_queue.jobs.giving_up import Loss
from leruli_queue.nomad.gateway import NomadGateway
from leruli_queue.nomad.names import PARENT_PREFIX, attempt_of_child
from leruli_queue.store.pool import Pool
from leruli_queue.store.queries import queries, rows

log = structlog.get_logger(__name__)


class Reconciler:
    """Compares what is in flight with what is in Nomad."""

    def __init__(self, pool: Pool, gateway: NomadGateway, losses: Losses) -> None:
        self._pool = pool
        self._gateway = gateway
        self._cluster = gateway.cluster.name
        self._losses = losses
        self._comparing = asyncio.Lock()

    async def compare(self) -> None:
        """Compare all that is in flight with Nomad's lists."""
        async with self._comparing:
            # The database first: what is dispatched in between is then in Nomad and not in this
            # list, and an attempt that the database does not know yet is looked up again below.
            in_flight = {
                AttemptId(row["job_id"], row["number"]): row
                for row in await rows(queries.attempts_in_flight(self._pool, cluster=self._cluster))
            }
            children = await self._gateway.list_alive_children(PARENT_PREFIX)
            allocations = await self._gateway.list_alive_allocations(PARENT_PREFIX)
            alive = {
                attempt: child["ID"]
                for child in children
                if (attempt := attempt_of_child(child["ID"]))
            }
            placed = {
                attempt
                for allocation in allocations
                if (attempt := attempt_of_child(allocation["JobID"]))
            }
            over, missing = await self._look_for(
                {
                    attempt: row["nomad_job_id"]
                    for attempt, row in in_flight.items()
                    if attempt not in placed and not (row["dead"] or row["nomad_job_id"] is None)
                },
                alive,
            )
            await self._note(in_flight, [*allocations, *over])
            await self._stop_strays(in_flight, alive)
            await self._give_up_missing(
                [(attempt, in_flight[attempt]) for attempt in missing if in_flight[attempt]["old"]]
            )

    async def _look_for(
        self, unplaced: dict[AttemptId, str], alive: Mapping[AttemptId, str]
    ) -> tuple[list[dict[str, Any]], list[AttemptId]]:
        """Return the allocations of attempts that are over, and the attempts that have none.

        One that is alive without an allocation waits for a place and is neither.
        """
        found = await few_at_once(self._gateway.allocations_of, unplaced.values())
        over = [allocation for allocations in found for allocation in allocations]
        missing = [
            attempt
            for attempt, allocations in zip(unplaced, found, strict=True)
            if not allocations and attempt not in alive
        ]
        return over, missing

    async def _note(
        self, in_flight: Container[AttemptId | None], allocations: Iterable[dict[str, Any]]
    ) -> None:
        ours = (
            seen
            for a in allocations
            if attempt_of_child(a["JobID"]) in in_flight
            if (seen := observe(a))
        )
        await note_observations(self._pool, ours)

    async def _stop_strays(
        self, in_flight: Container[AttemptId], alive: Mapping[AttemptId, str]
    ) -> None:
        """Stop children that are no current attempt: of a crash, or of another database."""
        unknown = [attempt for attempt in alive if attempt not in in_flight]
        if not unknown:
            return
        # Again: what was dispatched after the first look is no stray.
        current = {
            AttemptId(row["job_id"], row["number"])
            for row in await rows(queries.attempts_in_flight(self._pool, cluster=self._cluster))
        }
        for attempt in unknown:
            if attempt not in current:
                log.warning("stray child stopped", job=str(attempt.job_id), attempt=attempt.number)
                await self._gateway.stop_job(alive[attempt])

    async def _give_up_missing(self, missing: Sequence[tuple[AttemptId, Any]]) -> None:
        started = [attempt for attempt, row in missing if row["started_at"] is not None]
        await queries.note_gone(
            self._pool,
            job_ids=[attempt.job_id for attempt in started],
            numbers=[attempt.number for attempt in started],
        )
        why = "the cluster manager lost it"
        await self._losses.give_up(
            (row["group_id"], Loss(attempt, why, counts=False, only_unstarted=True))
            for attempt, row in missing
            if row["started_at"] is None
        )
