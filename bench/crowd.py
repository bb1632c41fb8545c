"""Insert very many jobs by COPY, to measure calls that must stay quick with any number."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import UUID

import asyncpg
from uuid_utils.compat import uuid7

from bench.stack import Stack
from leruli_queue.jobs.states import JobState

_COLUMNS = (
    *("id", "group_id", "user_id", "bucket", "name", "code", "version", "cores", "memory_mb"),
    *("time_limit_s", "state", "received_at", "ended_at"),
)


def add_crowd(
    stack: Stack, count: int, states: tuple[JobState, ...], *, ids: int = 5000
) -> list[UUID]:
    """Insert jobs of the user, with the states in turn; return about `ids` ids, oldest first."""
    every = max(1, count // ids)
    some: list[UUID] = []
    now = datetime.now(UTC)

    def records() -> Iterator[tuple[object, ...]]:
        for number in range(count):
            job_id = UUID(int=uuid7().int)
            if number % every == 0:
                some.append(job_id)
            state = states[number % len(states)]
            ended = None if state is JobState.RECEIVED else now
            yield (
                *(job_id, stack.user.group_id, stack.user.id, f"bucket-{job_id}", "default"),
                *("psi4", "1.5", 1, 4000, 86400, state, now, ended),
            )

    asyncio.run(_copy(stack.database_url, records()))
    return some


async def _copy(url: str, records: Iterator[tuple[object, ...]]) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.copy_records_to_table("jobs", records=records, columns=_COLUMNS)
        # After so many inserts autovacuum would do this within a minute.
        await connection.execute("VACUUM ANALYZE jobs")
    finally:
        await connection.close()
