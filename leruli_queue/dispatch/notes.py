"""Write down what was observed in Nomad."""

from __future__ import annotations

from collections.abc import Iterable

from leruli_queue.dispatch.observations import Observation
from leruli_queue.store.pool import Pool
from leruli_queue.store.queries import queries


async def note_observations(pool: Pool, observations: Iterable[Observation]) -> None:
    """Write observations down; what is older than what the database knows changes nothing."""
    observations = list(observations)
    if not observations:
        return
    running = [(seen.attempt, seen.running_since) for seen in observations if seen.running_since]
    await queries.note_allocations(
        pool,
        job_ids=[seen.attempt.job_id for seen in observations],
        numbers=[seen.attempt.number for seen in observations],
        allocation_ids=[seen.allocation_id for seen in observations],
        deads=[seen.dead for seen in observations],
        silents=[seen.silent for seen in observations],
    )
    if running:
        await queries.note_running(
            pool,
            job_ids=[attempt.job_id for attempt, _ in running],
            numbers=[attempt.number for attempt, _ in running],
            times=[since for _, since in running],
        )
