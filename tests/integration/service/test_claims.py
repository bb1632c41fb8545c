"""Which jobs of the backlog are submitted, and that each is submitted once."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest
from service_world import GroupOfTest, claim_jobs, make_jobs, make_node

from leruli_queue.access.authenticate import Node
from leruli_queue.store.pool import Pool
from leruli_queue.store.queries import queries


@pytest.fixture
async def node(pool: Pool, group: GroupOfTest) -> Node:
    return await make_node(pool, group)


async def note_alive(pool: Pool, node: Node, *, alive: bool) -> None:
    trouble = None if alive else "Nomad does not hear it"
    await queries.note_nodes(
        pool, ids=[node.id], alives=[alive], troubles=[trouble], unobserved=False
    )


async def test_only_jobs_that_fit_a_living_node_are_claimed_oldest_first(
    pool: Pool, group: GroupOfTest
) -> None:
    async def claim(limit: int) -> list[UUID]:
        return [row["job_id"] for row in await claim_jobs(pool, group, limit)]

    big = await make_jobs(pool, group, 1, cores=8)
    small = await make_jobs(pool, group, 3)
    assert await claim(10) == []
    node = await make_node(pool, group, cores=4)
    assert await claim(2) == small[:2]
    await queries.node_leaves(pool, node_id=node.id)
    assert await claim(10) == []
    large = await make_node(pool, group, cores=8)
    await note_alive(pool, large, alive=False)
    assert await claim(10) == []
    await note_alive(pool, large, alive=True)
    assert await claim(10) == [*big, *small[2:]]


async def test_a_claim_does_not_wait_for_a_locked_job(
    pool: Pool, group: GroupOfTest, node: Node
) -> None:
    held, free = await make_jobs(pool, group, 2)
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT FROM jobs WHERE id = $1 FOR UPDATE", held)
        found = await asyncio.wait_for(claim_jobs(pool, group, 10), 5)
    assert [row["job_id"] for row in found] == [free]


async def test_a_job_is_claimed_once_by_concurrent_claims(
    pool: Pool, group: GroupOfTest, node: Node
) -> None:
    jobs = await make_jobs(pool, group, 50)
    claimed = []
    # A claim skips rows that another claim has locked. The next round finds those that remain.
    while round_ := [
        row["job_id"]
        for part in await asyncio.gather(*(claim_jobs(pool, group, 10) for _ in range(8)))
        for row in part
    ]:
        claimed += round_
    assert len(claimed) == len(set(claimed)) == 50
    assert set(claimed) == set(jobs)
