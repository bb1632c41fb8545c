"""How PostgreSQL finds what the lists ask for: by an index, however many jobs there are."""

from __future__ import annotations

import inspect
from typing import Any
from uuid import UUID

import pytest
from service_world import GroupOfTest

from leruli_queue.jobs.states import JobState
from leruli_queue.store.pool import Pool
from leruli_queue.store.queries import queries


@pytest.fixture
async def crowded(pool: Pool, group: GroupOfTest) -> GroupOfTest:
    """A group with 20,000 jobs, most of them completed."""
    await pool.execute(
        """
        INSERT INTO jobs (id, group_id, user_id, bucket, name, code, version, cores, memory_mb,
                          time_limit_s, state, ended_at)
        SELECT gen_random_uuid(), $1, u.id, n::text, 'x', 'psi4', '1', 1, 100, 60,
               CASE WHEN n % 100 = 0 THEN 'failed'::job_state ELSE 'completed' END, now()
        FROM generate_series(1, 20000) AS n, users u
        WHERE u.name = 'ada'
        """,
        group.id,
    )
    await pool.execute("ANALYZE")
    return group


async def plan_of(pool: Pool, name: str, **arguments: Any) -> str:
    """The plan of a named statement, with these arguments."""
    statement = getattr(queries, name)
    # aiosql numbers the parameters in the order of its method's signature.
    order = [each for each in inspect.signature(statement).parameters if each in arguments]
    lines = await pool.fetch(f"EXPLAIN {statement.sql}", *(arguments[each] for each in order))
    return "\n".join(line[0] for line in lines)


PAGE = {
    "states": [state.value for state in JobState],
    "from_id": UUID(int=0),
    "before_id": UUID(int=2**128 - 1),
    "limit": 100,
}


async def test_a_page_of_a_group_is_read_by_its_index(pool: Pool, crowded: GroupOfTest) -> None:
    plan = await plan_of(pool, "page_of_group", **PAGE, group_id=crowded.id)
    assert "jobs_of_group" in plan
    assert "Seq Scan on jobs" not in plan


async def test_a_page_of_a_user_is_read_by_its_index(pool: Pool, crowded: GroupOfTest) -> None:
    plan = await plan_of(pool, "page_of_users", user_ids=[2], **PAGE)
    assert "jobs_of_user" in plan
    assert "Seq Scan on jobs" not in plan


async def test_an_audit_page_is_read_by_its_index(pool: Pool, crowded: GroupOfTest) -> None:
    await pool.execute(
        "INSERT INTO audit (group_id, action, subject)"
        " SELECT $1, 'job-cancelled', n::text FROM generate_series(1, 20000) AS n",
        crowded.id,
    )
    await pool.execute("ANALYZE audit")
    plan = await plan_of(
        pool, "audit_page", group_id=crowded.id, actions=["job-cancelled"], since=None,
        until=None, before_id=None, limit=100,
    )  # fmt: skip
    assert "audit_of_group" in plan or "audit_pkey" in plan
    assert "Seq Scan on audit" not in plan
