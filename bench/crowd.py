"""Very many jobs in a database, by COPY: what has to stay quick however many there are."""

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
# At most so many of the ids are kept to ask for.
_ASKED_FOR = 5000


def add_crowd(stack: Stack, count: int, states: tuple[JobState, ...]) -> list[UUID]:
    """Put jobs of the user in, the states in turn; return some of their ids, oldest first."""
    every = max(1, count // _ASKED_FOR)
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
        # What autovacuum does within a minute of so much.
        await connection.execute("VACUUM ANALYZE jobs")
    finally:
        await connection.close()
