"""The tracker: follows Nomad's event stream and notes the progress of attempts.

It notes which command runs, where, and why an attempt is unplaced. How a job ended is not taken
from Nomad but from the receipt. On every connect the reconciler compares once with Nomad's lists,
so nothing that happened without a connection is missed.

The stream is read on while earlier events are written. All events that have come by then are
written together: the more happens, the fewer statements an event costs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import aclosing
from typing import Any

import structlog

from leruli_queue.dispatch.notes import note_observations
from leruli_queue.dispatch.observations import Observation, observe
from leruli_queue.dispatch.reasons import unplaced_reason
from leruli_queue.dispatch.reconciler import Reconciler
from leruli_queue.jobs.attempts import AttemptId
from leruli_queue.nomad.clusters import Cluster
from leruli_queue.nomad.events import stream_events
from leruli_queue.nomad.names import attempt_of_child
from leruli_queue.store.pool import Pool
from leruli_queue.store.queries import queries

log = structlog.get_logger(__name__)

# Pause after a statement, in which events are only gathered. A statement for each of hundreds of
# events a second costs the dispatcher and PostgreSQL more than the rows that it writes.
_GATHER_S = 0.05
# Lines of the stream, of some 10 KB each, that may be in memory unwritten. At this number the
# stream is left unread, and Nomad may drop events silently. The comparisons make that good.
_MOST_UNWRITTEN = 500


class Tracker:
    """Writes the events of the stream to the database."""

    def __init__(self, pool: Pool, cluster: Cluster, reconciler: Reconciler) -> None:
        self._pool = pool
        self._cluster = cluster
        self._reconciler = reconciler

    async def run(self) -> None:
        """Follow the stream until it breaks.

        Raises
        ------
        ExceptionGroup
            With a leruli_queue.nomad.errors.NomadError when the stream broke, or with the failure
            of a statement. Run again.
        """
        lines: asyncio.Queue[list[dict[str, Any]]] = asyncio.Queue(_MOST_UNWRITTEN)
        async with asyncio.TaskGroup() as both:
            both.create_task(self._write_down(lines))
            async with aclosing(stream_events(self._cluster)) as stream:
                async for events in stream:
                    await lines.put(events)

    async def _write_down(self, lines: asyncio.Queue[list[dict[str, Any]]]) -> None:
        while True:
            events = await lines.get()
            if not events:
                # Connected: later events are in the stream, earlier ones in Nomad's lists.
                log.info("following Nomad's events")
                await self._reconciler.compare()
                continue
            while not lines.empty():
                events.extend(lines.get_nowait())
            await self.note(events)
            await asyncio.sleep(_GATHER_S)

    async def note(self, events: Iterable[dict[str, Any]]) -> None:
        """Write events to the database, in the order in which they came."""
        observations: list[Observation] = []
        unplaced: dict[AttemptId, str] = {}
        for event in events:
            payload = event.get("Payload") or {}
            if event["Topic"] == "Allocation":
                observation = observe(payload["Allocation"])
                if observation:
                    observations.append(observation)
            elif event["Topic"] == "Evaluation":
                evaluation = payload["Evaluation"]
                attempt = attempt_of_child(evaluation.get("JobID", ""))
                reason = unplaced_reason(evaluation)
                if attempt and reason:
                    unplaced[attempt] = reason
        if unplaced:
            await queries.note_unplaced_reasons(
                self._pool,
                job_ids=[attempt.job_id for attempt in unplaced],
                numbers=[attempt.number for attempt in unplaced],
                reasons=list(unplaced.values()),
            )
        await note_observations(self._pool, observations)
