"""No statement about one's jobs reads a whole table, whatever PostgreSQL knows of its arguments."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from service_world import GroupOfTest, make_user

from leruli_queue.jobs.states import JobState
from leruli_queue.store.pool import Connection, Pool
from leruli_queue.store.queries import queries

JOBS = 60_000
BY_INDEX = {"Index Scan", "Index Only Scan", "Bitmap Heap Scan"}

LARGE = {"jobs", "attempts", "audit"}

STATES = list(JobState)
FIRST, LAST = UUID(int=0), UUID(int=2**128 - 1)
IDS = [uuid4() for _ in range(1000)]

STATEMENTS: dict[str, dict[str, Any]] = {
    "job_statuses": {"job_ids": IDS, "group_id": 1, "owner_id": 1},
    "count_ahead": {"job_id": IDS[0], "most": 1001},
    "count_waiting": {"group_id": 1, "most": 2_000_000},
    "cancel_jobs": {
        "job_ids": IDS,
        "group_id": 1,
        "owner_id": 1,
        "user_id": 1,
        "reason": "why",
        "action": "job-cancelled",
    },
    "cancel_own_jobs": {"user_id": 1, "states": ["received"], "reason": "why", "limit": 20_000},
    "page_of_users": {
        "user_ids": [1],
        "states": STATES,
        "from_id": FIRST,
        "before_id": LAST,
        "limit": 100,
    },
    "page_of_group": {
        "group_id": 1,
        "states": STATES,
        "from_id": FIRST,
        "before_id": LAST,
        "limit": 100,
    },
    "audit_page": {
        "group_id": 1,
        "actions": ["job-cancelled"],
        "since": None,
        "until": None,
        "before_id": None,
        "limit": 100,
    },
    "listed_jobs": {"ids": IDS[:100]},
}


@pytest.fixture
async def filled(pool: Pool, group: GroupOfTest) -> AsyncIterator[Connection]:
    """Two users with jobs in every state, and statistics of them."""
    user = await make_user(pool, group)
    async with pool.acquire() as connection:
        await connection.execute(
            """
            INSERT INTO jobs (id, group_id, user_id, bucket, name, code, version, cores, memory_mb,
                              time_limit_s, state)
            SELECT (lpad(to_hex(n), 12, '0') || '70008000000000000000')::uuid, $1,
                   (ARRAY[$2, (SELECT min(id) FROM users)])[1 + n % 2], 'bucket-' || n, 'default',
                   'psi4', '1.5', 1, 4000, 60, (enum_range(NULL::job_state))[1 + n % 6]
            FROM generate_series(1, $3) AS n
            """,
            group.id,
            user.id,
            JOBS,
        )
        await connection.execute(
            "INSERT INTO attempts (job_id, number, node_set) "
            "SELECT id, n, 'set' FROM jobs CROSS JOIN generate_series(1, 2) AS n"
        )
        await connection.execute("UPDATE jobs SET attempt = 2")
        await connection.execute(
            "INSERT INTO audit (group_id, action, subject) "
            "SELECT $1, 'job-cancelled', n::text FROM generate_series(1, $2) AS n",
            group.id,
            JOBS,
        )
        await connection.execute("ANALYZE")
        yield connection


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


async def test_no_statement_scans_all_jobs(filled: Connection) -> None:
    offenders = {}
    for name in STATEMENTS:
        for generic in (False, True):
            scans = await scans_of(filled, name, generic=generic)
            assert scans, name
            if not {kind for _, kind in scans} <= BY_INDEX:
                offenders[name, generic] = scans
    assert offenders == {}


async def scans_of(connection: Connection, name: str, *, generic: bool) -> list[tuple[str, str]]:
    """How a statement reads the large tables.

    `generic`: as PostgreSQL plans a prepared statement that it has seen a few times, without
    regard to the arguments.
    """
    sql = getattr(queries, name).sql
    # aiosql numbers the arguments in this order.
    order = queries.driver_adapter.var_sorted[name]
    if generic:
        await connection.execute("SET plan_cache_mode = force_generic_plan")
        await connection.execute(f"PREPARE {name} AS {sql}")
        nulls = ", ".join(["NULL"] * len(order))
        text = await connection.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE {name} ({nulls})")
    else:
        values = [STATEMENTS[name][argument] for argument in order]
        text = await connection.fetchval(f"EXPLAIN (FORMAT JSON) {sql}", *values)
    return [
        (node["Relation Name"], node["Node Type"])
        for node in nodes(json.loads(text)[0]["Plan"])
        if node.get("Relation Name") in LARGE and "Scan" in node["Node Type"]
    ]
