"""The reconciler: compares the database with Nomad's lists.

The database holds the wanted state, Nomad's lists the actual one.

=================================================  ==========================================
database / Nomad                                   effect
=================================================  ==========================================
in flight / present, alive or over                 its allocation is noted as an event would be
started / missing for a minute                     the grace time for its receipt begins
not started / missing for a minute, or dead        abandoned
without any allocation
not in flight / alive                              stopped in Nomad, unless it is a slot between
                                                   two attempts
=================================================  ==========================================

Nomad lists only what is alive. Single calls ask about attempts in flight that are missing from
these lists. So jobs that Nomad keeps after their end cost neither side anything.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any

import structlog

from leruli_queue.dispatch.abandoner import Abandoner
from leruli_queue.dispatch.asking import few_at_once
from leruli_queue.dispatch.notes import note_observations
from leruli_queue.dispatch.observations import observe
from leruli_queue.jobs.abandon import Abandonment
from leruli_queue.jobs.attempts import AttemptId
from leruli_queue.nomad.gateway import NomadGateway
from leruli_queue.nomad.names import PARENT_PREFIX, attempt_of_child
from leruli_queue.store.pool import Pool
from leruli_queue.store.queries import queries, rows

log = structlog.get_logger(__name__)

# Beyond LERULI_QUEUE_SLOT_MAX_S, after which a slot runs no further attempt.
_LEFTOVER_S = 60.0


class Reconciler:
    """Compares what is in flight with what is in Nomad."""

    def __init__(
        self, pool: Pool, gateway: NomadGateway, abandoner: Abandoner, slot_max_s: float
    ) -> None:
        self._pool = pool
        self._slot_max_s = slot_max_s
        self._gateway = gateway
        self._cluster = gateway.cluster.name
        self._abandoner = abandoner
        self._comparing = asyncio.Lock()

    async def compare(self) -> None:
        """Compare all that is in flight with Nomad's lists."""
        async with self._comparing:
            # The database first: an attempt that is dispatched in between is then in Nomad's list
            # and not in this one. _stop_strays looks such attempts up again.
            in_flight = await self._in_flight()
            children = await self._gateway.list_alive_children(PARENT_PREFIX)
            allocations = await self._gateway.list_alive_allocations(PARENT_PREFIX)
            alive = {
                child_of: child["ID"]
                for child in children
                if (child_of := attempt_of_child(child["ID"]))
            }
            placed = {
                child_of
                for allocation in allocations
                if (child_of := attempt_of_child(allocation["JobID"]))
            }
            over, missing = await self._find_unlisted(
                {
                    child_of: found[0]["nomad_job_id"]
                    for child_of, found in in_flight.items()
                    if child_of not in placed
                    and not (all(row["dead"] for row in found) or found[0]["nomad_job_id"] is None)
                },
                alive,
            )
            await self._note(in_flight, [*allocations, *over])
            await self._stop_strays(in_flight, alive)
            await self._abandon_missing(
                [row for child_of in missing for row in in_flight[child_of] if row["old"]]
            )

    async def _in_flight(self) -> dict[AttemptId, list[Any]]:
        """Return the attempts in flight by the attempt that their child job is named after.

        A slot runs one attempt after the other under the child job of its first.
        """
        by_child = defaultdict(list)
        for row in await rows(queries.attempts_in_flight(self._pool, cluster=self._cluster)):
            by_child[AttemptId(row["child_job"], row["child_number"])].append(row)
        return by_child

    async def _find_unlisted(
        self, unplaced: dict[AttemptId, str], alive: Mapping[AttemptId, str]
    ) -> tuple[list[dict[str, Any]], list[AttemptId]]:
        """Return the allocations of attempts that are over, and the attempts that are missing.

        An attempt that is alive without an allocation is unplaced, and in neither list.
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
        """Stop child jobs that are no current attempt: left by a crash, or of another database.

        A slot has no attempt in flight for a moment between two of them.
        """
        unknown = [attempt for attempt in alive if attempt not in in_flight]
        if not unknown:
            return
        # Read again: an attempt dispatched after the first read is no stray.
        current = await self._in_flight()
        between = await rows(
            queries.between_attempts(
                self._pool,
                job_ids=[attempt.job_id for attempt in unknown],
                numbers=[attempt.number for attempt in unknown],
                young_s=self._slot_max_s + _LEFTOVER_S if self._slot_max_s else 0.0,
            )
        )
        spared = {AttemptId(row["job_id"], row["number"]) for row in between}
        for attempt in unknown:
            if attempt not in current and attempt not in spared:
                log.warning("stray child stopped", job=str(attempt.job_id), attempt=attempt.number)
                await self._gateway.stop_job(alive[attempt])

    async def _abandon_missing(self, missing: Sequence[Any]) -> None:
        started = [row for row in missing if row["started_at"] is not None]
        await queries.note_gone(
            self._pool,
            job_ids=[row["job_id"] for row in started],
            numbers=[row["number"] for row in started],
        )
        why = "the cluster manager lost it"
        await self._abandoner.abandon(
            (
                row["group_id"],
                Abandonment(
                    AttemptId(row["job_id"], row["number"]), why, counts=False, only_unstarted=True
                ),
            )
            for row in missing
            if row["started_at"] is None
        )
