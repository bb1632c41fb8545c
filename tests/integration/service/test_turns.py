"""The order of claims: users take turns; a user's own jobs go by priority and age."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from service_world import GroupOfTest, claim_jobs, make_jobs, make_node

from leruli_queue.access.authenticate import Node
from leruli_queue.groups.users import create_user
from leruli_queue.nomad.clusters import DEFAULT
from leruli_queue.store.pool import Pool
from leruli_queue.store.queries import prepared


async def new_user(pool: Pool, group: GroupOfTest, name: str) -> str:
    async with pool.acquire() as connection:
        return await create_user(connection, group.id, group.token, name=name, is_admin=False)


async def claimed(pool: Pool, group: GroupOfTest, limit: int, **changes: Any) -> set[UUID]:
    return {row["job_id"] for row in await claim_jobs(pool, group, limit, **changes)}


@pytest.fixture
async def a_node(pool: Pool, group: GroupOfTest) -> Node:
    return await make_node(pool, group)


async def test_free_slots_are_filled_in_turn_without_overtaking(
    pool: Pool, group: GroupOfTest, a_node: Node
) -> None:
    [small] = await make_jobs(pool, group, 1, memory_mb=1000)
    [wide] = await make_jobs(pool, group, 1, memory_mb=1000, cores=4)
    await make_jobs(pool, group, 5, memory_mb=1000)
    # The second job is wide and does not fit. No later job takes its room.
    assert await claimed(pool, group, 0, at_most=10, free=(4, 8000)) == {small}
    assert await claimed(pool, group, 0, at_most=10, free=(4, 8000)) == {wide}


async def test_resources_with_a_full_window_still_get_free_slots(
    pool: Pool, group: GroupOfTest, a_node: Node
) -> None:
    jobs = await make_jobs(pool, group, 5, memory_mb=1000)
    full = {"full_cores": [1], "full_memories": [1000]}
    assert await claimed(pool, group, 4, **full) == set()
    assert await claimed(pool, group, 4, at_most=4, free=(2, 8000), **full) == {*jobs[:2]}
    # Memory is a bound as cores are.
    assert await claimed(pool, group, 4, at_most=4, free=(4, 1000), **full) == {jobs[2]}


async def test_users_take_turns(pool: Pool, group: GroupOfTest, a_node: Node) -> None:
    many = await make_jobs(pool, group, 50, secret=await new_user(pool, group, "many"))
    few = await make_jobs(pool, group, 5, secret=await new_user(pool, group, "few"))
    assert await claimed(pool, group, 4) == {*many[:2], *few[:2]}
    # The user with the fewest jobs in flight is next, so a later user catches up.
    late = await make_jobs(pool, group, 5, secret=await new_user(pool, group, "late"))
    assert await claimed(pool, group, 2) == set(late[:2])
    assert await claimed(pool, group, 9) == {*many[2:5], *few[2:5], *late[2:5]}
    # No turn is lost when the other users have no more jobs.
    assert await claimed(pool, group, 20) == set(many[5:25])


async def test_a_users_own_jobs_go_by_priority_and_then_by_age(
    pool: Pool, group: GroupOfTest, a_node: Node
) -> None:
    usual = await make_jobs(pool, group, 3)
    later = await make_jobs(pool, group, 2, priority=-5)
    urgent = await make_jobs(pool, group, 2, priority=10)
    wide = await make_jobs(pool, group, 1, priority=5, cores=4)
    order = [job_id for _ in range(8) for job_id in await claimed(pool, group, 1)]
    assert order == [*urgent, *wide, *usual, *later]


async def test_a_priority_does_not_affect_other_users(
    pool: Pool, group: GroupOfTest, a_node: Node
) -> None:
    pushy = await make_jobs(pool, group, 10, priority=1000)
    modest = await make_jobs(pool, group, 10, secret=await new_user(pool, group, "modest"))
    assert await claimed(pool, group, 6) == {*pushy[:3], *modest[:3]}


async def test_jobs_that_fit_no_node_do_not_block_others(
    pool: Pool, group: GroupOfTest, a_node: Node
) -> None:
    """However many there are: they are skipped by their resources, not one by one."""
    await pool.execute(
        """
        INSERT INTO jobs (id, group_id, user_id, bucket, name, code, version, cores, memory_mb,
                          time_limit_s)
        SELECT ('00000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, $1, u.id, n::text,
               'x', 'psi4', '1', 64 + n % 10, 1000, 60
        FROM generate_series(1, 100000) AS n, users u WHERE u.name = 'ada'
        """,
        group.id,
    )
    await pool.execute("ANALYZE jobs")
    fitting = await make_jobs(pool, group, 3)
    assert await jobs_read(pool, group) < 200
    assert await claimed(pool, group, 10) == set(fitting)


async def test_the_order_holds_with_more_combinations_than_a_poll_examines(
    pool: Pool, group: GroupOfTest, a_node: Node
) -> None:
    """The first jobs are claimed too: the examined combinations are not in the order of age."""
    jobs = [
        (await make_jobs(pool, group, 1, memory_mb=1000 + number * 7919 % 4000, priority=priority))[
            0
        ]
        for priority in (-1, 0, 1)
        for number in range(20)
    ]
    order = [*jobs[40:], *jobs[20:40], *jobs[:20]]
    for poll in range(20):
        found = await claimed(pool, group, 3, most_combinations=5)
        assert found == set(order[3 * poll : 3 * poll + 3])


async def test_every_combination_is_examined_at_some_time(
    pool: Pool, group: GroupOfTest, a_node: Node
) -> None:
    # So many of the first jobs fit no node that no other job is among them.
    await make_jobs(pool, group, 50, cores=64, priority=1)
    old = [(await make_jobs(pool, group, 1, memory_mb=3000 + number))[0] for number in range(20)]
    left = set(old)
    polls = 0
    while left:
        # More smaller jobs arrive all the time than are claimed.
        for number in range(3):
            await make_jobs(pool, group, 1, memory_mb=1000 + 3 * polls + number)
        left -= await claimed(pool, group, 2, most_combinations=5)
        polls += 1
        assert polls < 200, left
    assert await pool.fetchval("SELECT count(*) FROM jobs WHERE state = 'received'") > 50


async def test_users_take_turns_whatever_resources_they_ask_for(
    pool: Pool, group: GroupOfTest, a_node: Node
) -> None:
    plain = await make_jobs(pool, group, 20, secret=await new_user(pool, group, "plain"))
    varied = [(await make_jobs(pool, group, 1, memory_mb=1000 + number))[0] for number in range(20)]
    for poll in range(5):
        found = await claimed(pool, group, 4, most_combinations=5)
        assert found == {*plain[2 * poll : 2 * poll + 2], *varied[2 * poll : 2 * poll + 2]}


async def test_a_full_window_is_respected_among_many_combinations_too(
    pool: Pool, group: GroupOfTest, a_node: Node
) -> None:
    full = await make_jobs(pool, group, 5, memory_mb=2000)
    varied = [(await make_jobs(pool, group, 1, memory_mb=1000 + number))[0] for number in range(20)]
    asked = {"full_cores": [1], "full_memories": [2000], "most_combinations": 5}
    assert await claimed(pool, group, 3, **asked) == set(varied[:3])
    # Free slots go to the first job, although its window is full.
    assert await claimed(pool, group, 0, at_most=2, free=(2, 8000), **asked) == set(full[:2])


async def jobs_read(pool: Pool, group: GroupOfTest) -> int:
    """How many rows of jobs a claim reads; the claim is rolled back."""
    arguments = {
        "group_id": group.id, "cluster": DEFAULT, "node_set": "set", "full_cores": [],
        "full_memories": [], "limit": 10, "at_most": 10, "free_cores": 0, "free_memory_mb": 0,
        "most_combinations": 100, "memory_steps": [],
    }  # fmt: skip
    sql, values = prepared("claim_jobs", arguments)
    async with pool.acquire() as connection:
        trial = connection.transaction()
        await trial.start()
        text = await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}", *values)
        await trial.rollback()
    return sum(
        node["Actual Rows"] * node["Actual Loops"] + node.get("Rows Removed by Filter", 0)
        for node in nodes_of(json.loads(text)[0]["Plan"])
        if node.get("Relation Name") == "jobs"
    )


def nodes_of(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes_of(child)
