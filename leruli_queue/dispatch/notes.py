"""Write observations of Nomad to the database."""

from __future__ import annotations

from collections.abc import Iterable

from leruli_queue.dispatch.observations import Observation
from leruli_queue.store.pool import Pool
from leruli_queue.store.queries import queries


async def note_observations(pool: Pool, observations: Iterable[Observation]) -> None:
    """Write observations; those older than what the database knows change nothing."""
    # Only the newest of each attempt: Nomad can have placed a child job a second time.
    by_attempt = {
        seen.attempt: seen for seen in sorted(observations, key=lambda seen: seen.create_index)
    }
    # Rows are locked in the order in which cancelling and abandoning lock them.
    newest = sorted(by_attempt.values(), key=lambda seen: seen.attempt.job_id)
    if not newest:
        return
    await queries.note_allocations(
        pool,
        job_ids=[seen.attempt.job_id for seen in newest],
        numbers=[seen.attempt.number for seen in newest],
        node_ids=[seen.node_id for seen in newest],
        allocation_ids=[seen.allocation_id for seen in newest],
        deads=[seen.dead for seen in newest],
        silents=[seen.silent for seen in newest],
    )
    running = [seen for seen in newest if seen.running_since]
    if running:
        await queries.note_running(
            pool,
            job_ids=[seen.attempt.job_id for seen in running],
            numbers=[seen.attempt.number for seen in running],
            node_ids=[seen.node_id for seen in running],
            times=[seen.running_since for seen in running],
        )
