"""Time of the dispatcher's regular statements when very many jobs are in flight."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import asyncpg

from bench.crowd import add_crowd
from bench.figures import Better, Figure, Samples
from bench.registry import Options, measurement
from bench.stack import Stack, running_stack
from leruli_queue.jobs.states import JobState
from leruli_queue.nomad.clusters import DEFAULT
from leruli_queue.store.queries import queries, rows

# 5,000 nodes of 16 slots.
_IN_FLIGHT = 80_000
# The fastest call counts, so the first one (which prepares the statement) does not.
_CALLS = 5

# Each statement with its arguments, and how often per second the dispatcher runs it.
_CLUSTER = {"cluster": DEFAULT}
_STATEMENTS: tuple[tuple[str, dict[str, Any], float], ...] = (
    ("in_flight_by_resources", _CLUSTER, 4.0),
    ("undispatched_attempts", _CLUSTER | {"limit": 200, "paused_groups": []}, 4.0),
    ("reserve_nodes", _CLUSTER | {"reserve_after_s": 600.0, "after_slots_s": 10.0}, 0.5),
    ("unplaced_attempts", _CLUSTER, 0.5),
    (
        "overdue_attempts",
        _CLUSTER
        | {"receipt_grace_s": 900.0, "start_grace_s": 900.0, "node_silence_s": 80.0}
        | {"reports_come_since": None, "after": UUID(int=0), "limit": 500},
        0.5,
    ),
)


@measurement("statements")
def statements(options: Options) -> Iterator[Figure]:
    """Measure while all jobs run and none is unplaced, as on full machines."""
    in_flight = min(_IN_FLIGHT, options.crowd)
    with running_stack(options.folder / "statements", workers=1) as stack:
        add_crowd(stack, in_flight, (JobState.RUNNING,))
        samples = asyncio.run(_measure(stack, options.repeat))
    for name, _, a_second in _STATEMENTS:
        what = f"{name} with {in_flight:,} in flight"
        yield Figure(
            what, "ms", Better.LOWER, Samples(samples[name], note=f"{a_second:g} times a second")
        )


async def _measure(stack: Stack, repeat: int) -> dict[str, list[float]]:
    connection = await asyncpg.connect(stack.database_url)
    try:
        await connection.execute(
            "UPDATE jobs SET attempt = 1, started_at = now() WHERE state = 'running'"
        )
        await connection.execute(
            "INSERT INTO attempts (job_id, number, node_set, cluster, nomad_job_id, allocation_id,"
            " started_at, running_at) SELECT id, 1, 'set', $1, id, id, now(), now() FROM jobs",
            DEFAULT,
        )
        await connection.execute("VACUUM ANALYZE jobs, attempts")
        return {
            name: [await _ms(connection, name, arguments) for _ in range(repeat)]
            for name, arguments, _ in _STATEMENTS
        }
    finally:
        await connection.close()


async def _ms(
    connection: asyncpg.Connection[asyncpg.Record], name: str, arguments: dict[str, Any]
) -> float:
    times = []
    for _ in range(_CALLS):
        began = time.perf_counter()
        await rows(getattr(queries, name)(connection, **arguments))
        times.append(1000 * (time.perf_counter() - began))
    return min(times)
