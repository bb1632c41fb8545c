"""The tracker: follows Nomad's event stream and notes what it tells about progress.

Which command runs, where, why one still waits. How a job ended is not Nomad's to say: that is the
receipt. On every connect the reconciler compares once with Nomad's lists, so that nothing that
happened while nobody listened is missed.

The stream is read on while what came before is written down, and all that has come by then is
written down together: the more happens, the fewer statements an event costs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import aclosing
from typing import Any

import structlog

from leruli_queue.dispatch.notes import note_observations
from leruli_queue.dispatch.observations import Observation, observe
from leruli_queue.dispatch.reasons import waiting_reason
from leruli_queue.dispatch.reconciler import Reconciler
from leruli_queue.jobs.attempts import AttemptId
from leruli_queue.nomad.clusters import Cluster
from leruli_queue.nomad.events import stream_events
from leruli_queue.nomad.names import attempt_of_child
from leruli_queue.store.pool import Pool
from leruli_queue.store.queries import queries

log = structlog.get_logger(__name__)

# After writing something down, seconds in which what comes is only gathered: a statement for each
# of hundreds of events a second costs the dispatcher and PostgreSQL more than what is written.
_TOGETHER_S = 0.05
# Lines of the stream, of some 10 KB each, that may wait to be written down. Then it is left unread,
# and Nomad may drop events without a sign, which the comparisons make good.
_MOST_HELD = 500


class Tracker:
    """Writes down what the event stream tells."""

    def __init__(self, pool: Pool, cluster: Cluster, reconciler: Reconciler) -> None:
        self._pool = pool
        self._cluster = cluster
        self._reconciler = reconciler

    async def run(self) -> None:
        """Follow the stream until it breaks.

        Raises
        ------
        ExceptionGroup
            Of a leruli_queue.nomad.errors.NomadError when it broke, or of what noting met; run
            again.
        """
        lines: asyncio.Queue[list[dict[str, Any]]] = asyncio.Queue(_MOST_HELD)
        async with asyncio.TaskGroup() as both:
            both.create_task(self._write_down(lines))
            async with aclosing(stream_events(self._cluster)) as stream:
                async for events in stream:
                    await lines.put(events)

    async def _write_down(self, lines: asyncio.Queue[list[dict[str, Any]]]) -> None:
        while True:
            events = await lines.get()
            if not events:
                # Connected: what comes from now on is in the stream, what came before in the lists.
                log.info("following Nomad's events")
                await self._reconciler.compare()
                continue
            while not lines.empty():
                events.extend(lines.get_nowait())
            await self.note(events)
            await asyncio.sleep(_TOGETHER_S)

    async def note(self, events: Iterable[dict[str, Any]]) -> None:
        """Note events, in the order in which they came."""
        observations: list[Observation] = []
        waiting: dict[AttemptId, str] = {}
        for event in events:
            payload = event.get("Payload") or {}
            if event["Topic"] == "Allocation":
                observation = observe(payload["Allocation"])
                if observation:
                    observations.append(observation)
            elif event["Topic"] == "Evaluation":
                evaluation = payload["Evaluation"]
                attempt = attempt_of_child(evaluation.get("JobID", ""))
                reason = waiting_reason(evaluation)
                if attempt and reason:
                    waiting[attempt] = reason
        if waiting:
            await queries.note_waiting(
                self._pool,
                job_ids=[attempt.job_id for attempt in waiting],
                numbers=[attempt.number for attempt in waiting],
                reasons=list(waiting.values()),
            )
        await note_observations(self._pool, observations)
