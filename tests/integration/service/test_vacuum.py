"""The most frequent updates leave little for vacuum."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

from service_world import GroupOfTest, claim_jobs, make_jobs, make_node

from leruli_queue.jobs.attempts import AttemptId, start_attempt
from leruli_queue.jobs.outcomes import Outcome
from leruli_queue.store.pool import Connection, Pool
from leruli_queue.store.queries import queries


async def test_only_the_receipt_changes_an_index_of_attempts(
    pool: Pool, group: GroupOfTest
) -> None:
    """Other updates are HOT and need no vacuum: the next access cleans up their page.

    The receipt takes the attempt out of attempts_of_slot, which holds only attempts in flight.
    """
    node = await make_node(pool, group)
    [job_id] = await make_jobs(pool, group, 1)
    await claim_jobs(pool, group, 1)
    attempt = {"job_id": job_id, "number": 1}
    attempts = {"job_ids": [job_id], "numbers": [1]}
    await queries.note_dispatched(pool, **attempts, nomad_job_ids=["child"])
    seen = attempts | {"node_ids": [node.id]}
    async with pool.acquire() as connection, connection.transaction():
        # Earlier changes of the session may be counted late.
        before = await changes(connection)
        await start_attempt(connection, node, AttemptId(job_id, 1), str(uuid4()))
        await queries.note_allocations(
            connection,
            **seen,
            allocation_ids=["allocation"],
            deads=[False],
            silents=[False],
        )
        await queries.note_running(connection, **seen, times=[datetime.now(UTC)])
        await queries.allow_upload(connection, **attempt, node_id=node.id, marks=True)
        await queries.end_attempt(
            connection,
            **attempt,
            outcome=Outcome.ENDED,
            exit_code=0,
            message=None,
            wall_s=1.0,
            cpu_s=1.0,
            peak_memory_mb=1,
            uploaded_bytes=1,
            uploaded_files=1,
            peak_no_cache_mb=1,
            disk_mb=1,
            image_s=1.0,
            input_s=1.0,
            output_s=1.0,
        )
        after = await changes(connection)
    assert [late - early for late, early in zip(after, before, strict=True)] == [5, 4]


async def changes(connection: Connection) -> tuple[int, int]:
    """Updated rows of attempts, and those among them that changed no index (HOT)."""
    row = await connection.fetchrow(
        "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_xact_user_tables WHERE relname = 'attempts'"
    )
    return tuple(row)
