"""A group with many jobs, and what PostgreSQL reads for a statement: for the tests of plans."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from service_world import GroupOfTest, make_group

from leruli_queue.access.authenticate import User
from leruli_queue.jobs.states import JobState
from leruli_queue.store.pool import Connection, Pool
from leruli_queue.store.queries import prepared

# Enough jobs for an index to pay off. With more jobs a table scan is even worse. Measurements with
# 1,000,000 are in docs/developers/scheduling.md.
JOBS = 60_000

LARGE = {
    *("jobs", "attempts", "audit", "events"),
    *("batches", "batches_now", "batch_changes", "batch_mails", "mails"),
}
# Indexes of what is in flight: even a scan of them reads little.
OF_FEW = {
    "jobs_in_flight",
    "jobs_unstarted",
    "jobs_on_node",
    "attempts_undispatched",
    "attempts_to_stop",
    "attempts_of_slot",
    "batch_mails_open",
    "mails_due",
}

STATES = list(JobState)
FIRST, LAST = UUID(int=0), UUID(int=2**128 - 1)


def job_id(number: int) -> UUID:
    """The id of one of the existing jobs, which are numbered from 1."""
    return UUID(f"{number:012x}70008000000000000000")


# Jobs of all states; the first one runs.
IDS = [job_id(number) for number in range(1, JOBS, JOBS // 1000)]
LAST_WAITING = job_id(JOBS - 2)
NODE = uuid4()
# Most jobs have a batch, and most of them the first one. The other batches have few changes each.
BATCHES = [uuid4() for _ in range(JOBS // 10)]
NOW = datetime.now(UTC)


@asynccontextmanager
async def filled_group(pool: Pool, group: GroupOfTest, user: User) -> AsyncIterator[Connection]:
    """A group after some weeks: the older half of its jobs has ended, 1 % is in flight."""
    node_id = await pool.fetchval(
        "INSERT INTO nodes (id, group_id, name, key_id, token_hash, epoch, cores, memory_mb,"
        " agent_version, alive)"
        " VALUES ($1, $2, 'machine', 'key', '', 1, 4, 8000, '1', true) RETURNING id",
        NODE,
        group.id,
    )
    other = await make_group(pool, "physicists")
    async with pool.acquire() as connection:
        await connection.execute(
            """
            INSERT INTO jobs (id, group_id, user_id, bucket, name, code, version, cores, memory_mb,
                              time_limit_s, state, attempt, node_id, started_at, ended_at, batch)
            SELECT (lpad(to_hex(n), 12, '0') || '70008000000000000000')::uuid, $1,
                   (ARRAY[$2, (SELECT min(id) FROM users)])[1 + n % 2], 'bucket-' || n, 'default',
                   'psi4', '1.5', CASE WHEN n % 3 = 0 THEN 64 ELSE 1 END, 4000, 60, state,
                   CASE WHEN state = 'received' THEN 0 ELSE 2 END,
                   CASE WHEN state = 'running' THEN $4::uuid END,
                   CASE WHEN state = 'running' THEN now() END,
                   CASE WHEN state IN ('completed', 'failed', 'cancelled')
                        THEN now() - ($3::int / 2 - n) * interval '1 minute' END,
                   CASE WHEN n % 4 > 0 THEN 1 END
            FROM generate_series(1, $3) AS n
            CROSS JOIN LATERAL (SELECT (CASE
                WHEN n % 200 = 0 THEN 'submitted' WHEN n % 200 = 1 THEN 'running'
                WHEN n > $3::int / 2 THEN 'received'
                ELSE (ARRAY['completed', 'failed', 'cancelled'])[1 + n % 3] END)::job_state AS state
            ) AS s
            """,
            group.id,
            user.id,
            JOBS,
            node_id,
        )
        await connection.execute(
            """
            INSERT INTO attempts (job_id, number, node_set, nomad_job_id, allocation_id, node_id,
                                  ended_at, stop_requested_at, stopped_at)
            SELECT id, n, 'set', 'child', 'allocation', node_id,
                   CASE WHEN ended_at IS NOT NULL AND n = 2 THEN ended_at END,
                   CASE WHEN n = 1 THEN now() END, CASE WHEN n = 1 THEN now() END
            FROM jobs CROSS JOIN generate_series(1, 2) AS n
            WHERE attempt = 2
            """
        )
        await connection.execute(
            "INSERT INTO audit (group_id, action, subject)"
            " SELECT (ARRAY[$1::int, $2::int])[1 + n % 2], 'job-cancelled', n::text"
            " FROM generate_series(1, $3) AS n",
            group.id,
            other.id,
            JOBS,
        )
        await connection.execute(
            "INSERT INTO events (xid, user_id, job_id, state, attempt, at)"
            " SELECT (n / 200 + 1)::text::xid8, user_id, id, state, attempt,"
            "        now() - interval '1 day'"
            " FROM (SELECT *, row_number() OVER (ORDER BY id) AS n FROM jobs) AS jobs"
        )
        await connection.execute(
            "INSERT INTO batches (user_id, id, name)"
            " SELECT $1 + n % 2, id, 'scan' FROM unnest($2::uuid[]) WITH ORDINALITY AS t (id, n)",
            user.id - 1,
            BATCHES,
        )
        await connection.execute(
            "INSERT INTO batch_changes (batch, received)"
            " SELECT 1 + n % $2, 1 FROM generate_series(1, $1::int) AS n",
            JOBS,
            len(BATCHES),
        )
        # Few users wait for mail; most mails were sent.
        await connection.execute(
            "INSERT INTO batch_mails (user_id, batch_id, address, complete)"
            " SELECT $1 + n % 2, id, CASE WHEN n % 100 = 0 THEN 'ada@example.org' END, true"
            " FROM unnest($2::uuid[]) WITH ORDINALITY AS t (id, n)",
            user.id - 1,
            BATCHES,
        )
        await connection.execute(
            "INSERT INTO mails (id, user_id, batch_id, address, subject, body, written_at, due_at)"
            " SELECT gen_random_uuid(), 1 + n % 1000, gen_random_uuid(), 'ada@example.org', '', '',"
            "        now() - n * interval '1 minute',"
            "        CASE WHEN n % 1000 = 0 THEN now() END"
            " FROM generate_series(1, $1::int / 2) AS n",
            JOBS,
        )
        await connection.execute("VACUUM ANALYZE")
        yield connection


async def run_and_count(
    connection: Connection, name: str, arguments: dict[str, Any]
) -> tuple[int, list[Any]]:
    """Run a statement and roll it back; return what it read of large tables, and its rows."""
    sql, values = prepared(name, arguments)
    trial = connection.transaction()
    await trial.start()
    before = await read_so_far(connection)
    found = await connection.fetch(sql, *values)
    read = await read_so_far(connection) - before
    await trial.rollback()
    return read, found


async def read_so_far(connection: Connection) -> int:
    """Rows and index entries of large tables that the transaction has read, also in functions."""
    read: int = await connection.fetchval(
        "SELECT sum(pg_stat_get_xact_tuples_returned(c.oid))::bigint"
        " FROM pg_class c LEFT JOIN pg_index i ON i.indexrelid = c.oid"
        " WHERE coalesce(i.indrelid, c.oid)"
        " = ANY (SELECT name::regclass FROM unnest($1::text[]) AS name)",
        LARGE,
    )
    return read


async def leading_columns(connection: Connection) -> dict[str, str]:
    """The first column of each index."""
    found = await connection.fetch(
        "SELECT indexrelid::regclass::text AS name, pg_get_indexdef(indexrelid, 1, true) AS first"
        " FROM pg_index"
    )
    return {row["name"]: row["first"] for row in found}


async def scanned(connection: Connection) -> dict[str, int]:
    """How often each large table was scanned."""
    counts = await connection.fetch(
        "SELECT relname, seq_scan FROM pg_stat_xact_user_tables WHERE relname = ANY ($1)", LARGE
    )
    return {row["relname"]: row["seq_scan"] for row in counts}


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


def rows_of(node: dict[str, Any]) -> float:
    """How many rows a step of the plan read, including those that it filtered out."""
    kept_out = ("Filter", "Join Filter", "Index Recheck")
    each_time = node["Actual Rows"] + sum(node.get(f"Rows Removed by {by}", 0) for by in kept_out)
    return float(each_time * node["Actual Loops"])


def reads_large_table(node: dict[str, Any]) -> bool:
    if node["Node Type"] == "Bitmap Index Scan":  # which does not say of what
        return any(node["Index Name"].startswith(table) for table in LARGE)
    # The node above it shows the reads of the table.
    return node.get("Relation Name") in LARGE and node["Node Type"] in {
        "Seq Scan",
        "Sample Scan",
        "Index Scan",
        "Index Only Scan",
    }


def reads_whole(node: dict[str, Any], leading: dict[str, str]) -> bool:
    if "Index Name" not in node:
        return True
    if node["Index Name"] in OF_FEW:
        return False
    # A condition only on other columns scans the whole index.
    first = leading[node["Index Name"]]
    return not re.search(rf"\b{first}\b", node.get("Index Cond", ""))


async def plan_of(
    connection: Connection, name: str, arguments: dict[str, Any], *, generic: bool
) -> dict[str, Any]:
    """PostgreSQL's plan of a statement.

    `generic`: the plan of a prepared statement that has run a few times, regardless of its
    arguments.
    """
    sql, values = prepared(name, arguments)
    if generic:
        await connection.execute("SET plan_cache_mode = force_generic_plan")
        await connection.execute(f"PREPARE {name} AS {sql}")
        nulls = f"({', '.join(['NULL'] * len(values))})" if values else ""
        text = await connection.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE {name} {nulls}")
    else:
        text = await connection.fetchval(f"EXPLAIN (FORMAT JSON) {sql}", *values)
    plan: dict[str, Any] = json.loads(text)[0]["Plan"]
    return plan
