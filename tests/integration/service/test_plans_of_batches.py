"""Lists, events and usage of batches read little of the large tables, in each of their forms.

The statements themselves are in test_plans.py. Here are arguments of users.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from plan_world import (
    FIRST,
    JOBS,
    LAST,
    NOW,
    STATES,
    filled_group,
    job_id,
    leading_columns,
    nodes,
    plan_of,
    reads_large_table,
    reads_whole,
    run_and_count,
)
from service_world import GroupOfTest, make_user

from leruli_queue.access.authenticate import User
from leruli_queue.jobs.states import JobState
from leruli_queue.store.pool import Connection, Pool

# All jobs of the large batch that have ended, which is every job of it that ended.
LARGE_BATCH, SMALL_BATCH = 1, 2
# Jobs of the small batch.
FEW = 40
PAGE: dict[str, Any] = {"states": STATES, "from_id": FIRST, "before_id": LAST, "limit": 100}
EVENTS: dict[str, Any] = {"user_ids": [1, 2], "xid": "1", "number": 0, "job_ids": None}
USAGE: dict[str, Any] = {"group_id": 1, "since": NOW - timedelta(days=400), "until": NOW}
USAGE |= {"by_user": True, "by_code": True, "by_month": True, "by_batch": True, "limit": 1000}

# Statement, arguments, and how many rows and index entries it may read.
ASKED: dict[str, tuple[str, dict[str, Any], int]] = {
    # A page of each state, by the index, and their rows.
    "a page of a large batch": ("page_of_jobs_in_batches", PAGE | {"batches": [1]}, 1500),
    "a page of one state": (
        "page_of_jobs_in_batches",
        PAGE | {"batches": [1], "states": [JobState.FAILED]},
        300,
    ),
    "a page far back": (
        "page_of_jobs_in_batches",
        PAGE | {"batches": [1], "before_id": job_id(JOBS // 10)},
        1500,
    ),
    "a page of a small batch": ("page_of_jobs_in_batches", PAGE | {"batches": [2]}, 4 * FEW),
    # Each event that is looked at, and its job.
    "events of a small batch": (
        "events_after",
        EVENTS | {"batches": [2], "states": STATES, "most_scanned": 1000, "limit": 1000},
        8000,
    ),
    "usage of a small batch": ("usage_of_group", USAGE | {"batches": [2]}, 20 * FEW),
    "usage of none": ("usage_of_group", USAGE | {"batches": []}, 0),
    "a name that no batch has": (
        "batches_named",
        {"user_ids": [1, 2], "name": "no", "first": None, "last": None, "limit": 101},
        10,
    ),
    "a name that each batch has": (
        "batches_named",
        {"user_ids": [1, 2], "name": "scan", "first": FIRST, "last": LAST, "limit": 101},
        1000,
    ),
}


@pytest.fixture
async def user(pool: Pool, group: GroupOfTest) -> User:
    return await make_user(pool, group)


@pytest.fixture
async def filled(pool: Pool, group: GroupOfTest, user: User) -> AsyncIterator[Connection]:
    async with filled_group(pool, group, user) as connection:
        # Jobs that ended, among those of the large batch.
        await connection.execute(
            "UPDATE jobs SET batch = $1 WHERE id = ANY("
            "  SELECT id FROM jobs WHERE state = 'completed' ORDER BY id LIMIT $2)",
            SMALL_BATCH,
            FEW,
        )
        await connection.execute("VACUUM ANALYZE jobs")
        yield connection


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
async def test_what_is_asked_of_batches_reads_little(filled: Connection, mode: str) -> None:
    await filled.execute(f"SET plan_cache_mode = {mode}")
    offenders = {}
    for what, (name, arguments, most) in ASKED.items():
        read, _ = await run_and_count(filled, name, arguments)
        if read > most:
            offenders[what] = (read, most)
    assert offenders == {}


async def test_usage_of_batches_scans_no_large_table(filled: Connection) -> None:
    """The statement has two halves. The whole group's one must not be executed here."""
    leading = await leading_columns(filled)
    for batches in ([SMALL_BATCH], [LARGE_BATCH, SMALL_BATCH], None):
        for generic in (False, True):
            arguments = USAGE | {"batches": batches, "since": NOW - timedelta(days=1)}
            plan = await plan_of(filled, "usage_of_group", arguments, generic=generic)
            whole = [
                (node["Node Type"], node.get("Relation Name"))
                for node in nodes(plan)
                if reads_large_table(node) and reads_whole(node, leading)
            ]
            assert whole == [], (batches, generic)
            await filled.execute("RESET plan_cache_mode")
            if generic:
                await filled.execute("DEALLOCATE usage_of_group")
