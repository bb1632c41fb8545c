"""Size, dead rows and pace of the tables after a million changes of state."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from bench.figures import Better, Figure, Samples
from bench.load import UnexpectedAnswerError
from bench.registry import Options, measurement
from bench.stack import Stack, running_stack
from leruli_queue.access.secrets import SecretType, make
from leruli_queue.dispatch.claims import MOST_COMBINATIONS
from leruli_queue.jobs.intake import NewJob, submit_jobs
from leruli_queue.jobs.outcomes import Outcome
from leruli_queue.jobs.states import JobState
from leruli_queue.nomad.clusters import DEFAULT
from leruli_queue.store.queries import prepared, queries, rows

# Changes of state per job: received, submitted, running, completed.
_CHANGES = 4
# Jobs in one round.
_ROUND = 200
# Jobs that run at a time, if the crowd has so many. The jobs that end next are drawn at random.
_RUNNING = 5000
# PostgreSQL's default is 60 s, in which 150 jobs a second make 36,000 changes.
_NAPTIME_S = 5
_SEED = 6
_TABLES = ("jobs", "attempts")


@dataclass(frozen=True)
class Remains:
    """State of the database after all rounds."""

    # Duration of each round, in order.
    seconds: Sequence[float]
    jobs: int
    # autovacuum_naptime as PostgreSQL prints it.
    naptime: str
    dead_share: float
    bytes_used: int
    # Size of the same rows without free space.
    bytes_packed: int


@measurement("churn")
def churn(options: Options) -> Iterator[Figure]:
    """Make ten changes per job of the crowd by the statements of service and dispatcher."""
    changes = 10 * options.crowd
    rounds = max(10, changes // (_CHANGES * _ROUND))
    at_a_time = max(_ROUND, min(_RUNNING, options.crowd // _ROUND * _ROUND))
    with running_stack(options.folder / "churn", workers=1) as stack:
        remains = asyncio.run(_wear_out(stack, rounds, at_a_time))
    yield from figures_of(remains)


def figures_of(remains: Remains) -> Iterator[Figure]:
    """Return the figures of a database after all rounds."""
    tenth = len(remains.seconds) // 10
    first, last = sum(remains.seconds[:tenth]), sum(remains.seconds[-tenth:])
    changes = len(remains.seconds) * _ROUND * _CHANGES
    after = f"after {changes:,} changes of state"
    rate = changes / sum(remains.seconds)
    each = remains.bytes_used / remains.jobs
    ran = f"autovacuum_naptime {remains.naptime}; {rate:,.0f} changes/s"
    yield Figure(
        f"jobs and attempts with indexes {after}",
        "MB",
        Better.LOWER,
        Samples(
            [remains.bytes_used / 1e6], note=f"{remains.jobs:,} jobs of {each:,.0f} bytes; {ran}"
        ),
        2 * remains.bytes_packed / 1e6,
        [Samples([remains.bytes_packed / 1e6], "the same rows packed")],
    )
    yield Figure(
        f"dead rows {after}, of all", "%", Better.LOWER, Samples([100 * remains.dead_share])
    )
    yield Figure(
        f"pace of the last tenth {after}, against the first",
        "x",
        Better.HIGHER,
        Samples([first / last]),
        0.7,
    )


async def _wear_out(stack: Stack, rounds: int, at_a_time: int) -> Remains:
    connection = await asyncpg.connect(stack.database_url)
    try:
        node_id = await _add_node(connection, stack)
        draw = random.Random(_SEED)  # noqa: S311  # no secret
        # Changes come many times faster than in production, so autovacuum runs more often too.
        await connection.execute(f"ALTER SYSTEM SET autovacuum_naptime = '{_NAPTIME_S} s'")
        await connection.execute("SELECT pg_reload_conf()")
        running: list[UUID] = []
        while len(running) < at_a_time:
            running += await _begin(connection, stack, node_id)
        # In production autovacuum does this within the first minute. It drops the plans that were
        # made for empty tables.
        await connection.execute("VACUUM (ANALYZE)")
        seconds = []
        for _ in range(rounds):
            began = time.perf_counter()
            running += await _begin(connection, stack, node_id)
            draw.shuffle(running)
            await _end(connection, running[:_ROUND])
            del running[:_ROUND]
            seconds.append(time.perf_counter() - began)
        if len(running) != at_a_time:
            raise UnexpectedAnswerError(f"{len(running)} jobs run instead of {at_a_time}.")
        return await _read_remains(connection, seconds)
    finally:
        await connection.close()


async def _add_node(connection: asyncpg.Connection[Any], stack: Stack) -> UUID:
    token = make(SecretType.NODE)
    node_id: UUID = await queries.upsert_node(
        connection,
        id=uuid4(),
        group_id=stack.user.group_id,
        cluster=DEFAULT,
        name="machine",
        key_id=token.key_id,
        token_hash=token.hash,
        epoch=1,
        cores=16,
        memory_mb=64000,
        agent_version="bench",
    )
    # The dispatcher sets this once the node has registered with Nomad.
    await connection.execute("UPDATE nodes SET alive = true WHERE id = $1", node_id)
    return node_id


async def _begin(connection: asyncpg.Connection[Any], stack: Stack, node_id: UUID) -> list[UUID]:
    """Submit a round of jobs and take as many to `running`, as feeder, node and tracker do."""
    await submit_jobs(
        connection,
        [
            (stack.user, NewJob(str(uuid4()), "default", "psi4", "1.5", 1, 4000, 86400))
            for _ in range(_ROUND)
        ],
    )
    claimed = await rows(
        queries.claim_jobs(
            connection,
            group_id=stack.user.group_id,
            cluster=DEFAULT,
            node_set="set",
            full_cores=[],
            full_memories=[],
            limit=_ROUND,
            at_most=_ROUND,
            free_cores=_ROUND,
            free_memory_mb=4000 * _ROUND,
            most_combinations=MOST_COMBINATIONS,
            memory_steps=[],
        )
    )
    job_ids = [row["job_id"] for row in claimed]
    numbers = [1] * len(job_ids)
    await queries.note_dispatched(
        connection,
        job_ids=job_ids,
        numbers=numbers,
        nomad_job_ids=[f"run/dispatch-{job_id}x1-{uuid4()}" for job_id in job_ids],
    )
    starts = [{"node_id": node_id, "start_key": uuid4().hex, "lease": True} for _ in job_ids]
    await _for_each(connection, "start_attempt", job_ids, starts)
    attempts = {
        "job_ids": job_ids,
        "numbers": numbers,
        "node_ids": [node_id] * len(job_ids),
    }
    alive = [False] * len(job_ids)
    await queries.note_allocations(
        connection,
        **attempts,
        allocation_ids=[str(uuid4()) for _ in job_ids],
        deads=alive,
        silents=alive,
    )
    await queries.note_running(connection, **attempts, times=[datetime.now(UTC)] * len(job_ids))
    return job_ids


async def _end(connection: asyncpg.Connection[Any], job_ids: Sequence[UUID]) -> None:
    """Record the receipts of some jobs."""
    receipt = {
        "outcome": Outcome.ENDED,
        "exit_code": 0,
        "message": None,
        "wall_s": 1.0,
        "cpu_s": 1.0,
        "peak_memory_mb": 100,
        "uploaded_bytes": 1000,
        "uploaded_files": 3,
        "peak_no_cache_mb": 50,
        "disk_mb": 10,
        "image_s": 0.1,
        "input_s": 0.1,
        "output_s": 0.1,
    }
    await _for_each(connection, "end_attempt", job_ids, [receipt] * len(job_ids))
    verdict = {"state": JobState.COMPLETED, "reason": None, "exit_code": 0}
    await _for_each(connection, "end_job", job_ids, [verdict] * len(job_ids))


async def _for_each(
    connection: asyncpg.Connection[Any],
    name: str,
    job_ids: Sequence[UUID],
    arguments: Sequence[dict[str, Any]],
) -> None:
    """Run a statement of one attempt for many attempts, without a pause in between."""
    runs = [
        prepared(name, {"job_id": job_id, "number": 1} | others)
        for job_id, others in zip(job_ids, arguments, strict=True)
    ]
    if runs:
        await connection.executemany(runs[0][0], [values for _, values in runs])


async def _read_remains(connection: asyncpg.Connection[Any], seconds: Sequence[float]) -> Remains:
    # PostgreSQL publishes its statistics with a delay.
    await connection.execute("SELECT pg_stat_force_next_flush()")
    dead = await connection.fetchval(
        "SELECT sum(n_dead_tup)::float / sum(n_live_tup + n_dead_tup) FROM pg_stat_user_tables"
        " WHERE relname = ANY ($1)",
        _TABLES,
    )
    used = await _size(connection)
    jobs: int = await connection.fetchval("SELECT count(*) FROM jobs")
    naptime: str = await connection.fetchval("SHOW autovacuum_naptime")
    for table in _TABLES:
        await connection.execute(f"ALTER TABLE {table} RESET (fillfactor)")
        await connection.execute(f"VACUUM (FULL) {table}", timeout=600)
    return Remains(seconds, jobs, naptime, dead, used, await _size(connection))


async def _size(connection: asyncpg.Connection[Any]) -> int:
    """Return the size of the tables with all of their indexes, in bytes."""
    total: int = await connection.fetchval(
        "SELECT sum(pg_total_relation_size(name::regclass))::bigint"
        " FROM unnest($1::text[]) AS name",
        _TABLES,
    )
    return total
