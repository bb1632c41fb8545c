"""task-follow: what it answers, and what the node of a followed job is told, and when."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import httpx
import pytest
from held_report_world import holding_service, report, soon, waiting
from service_world import (
    GroupOfTest,
    call,
    claim_jobs,
    make_jobs,
    make_node_with_token,
)

from leruli_queue.access.authenticate import Node
from leruli_queue.jobs.attempts import AttemptId, start_attempt
from leruli_queue.jobs.follow import delete_old_follows
from leruli_queue.settings import Settings
from leruli_queue.store.pool import Pool


@pytest.fixture
async def api(settings: Settings, pool: Pool) -> AsyncIterator[httpx.AsyncClient]:
    async with holding_service(settings, pool) as client:
        yield client


@pytest.fixture
async def joined(pool: Pool, group: GroupOfTest) -> tuple[Node, str]:
    return await make_node_with_token(pool, group)


async def claim(pool: Pool, group: GroupOfTest) -> AttemptId:
    await make_jobs(pool, group, 1)
    [claimed] = await claim_jobs(pool, group, 1)
    return AttemptId(claimed["job_id"], claimed["number"])


async def start(pool: Pool, node: Node, attempt: AttemptId) -> None:
    await start_attempt(pool, node, attempt, "start-key")


async def started(pool: Pool, group: GroupOfTest, node: Node) -> AttemptId:
    """An attempt with the start grant."""
    attempt = await claim(pool, group)
    await start(pool, node, attempt)
    return attempt


async def follow(api: httpx.AsyncClient, group: GroupOfTest, job_id: UUID) -> dict[str, Any]:
    return dict(await call(api, "task-follow", secret=group.user_secret, jobid=str(job_id)))


def named(attempt: AttemptId) -> list[dict[str, Any]]:
    return [{"jobid": str(attempt.job_id), "attempt": attempt.number}]


@asynccontextmanager
async def no_notification(pool: Pool) -> AsyncIterator[None]:
    """Check that nothing within the block tells a node anything."""
    told: list[str] = []
    async with pool.acquire() as connection:
        await connection.add_listener("leruli_node", lambda *event: told.append(event[-1]))
        yield
        await connection.execute("SELECT 1")
        assert told == []
        await connection.reset()


async def age_follows(pool: Pool, by_s: float) -> None:
    await pool.execute("UPDATE follows SET until = now() - make_interval(secs => $1)", by_s)


async def test_it_answers_state_attempt_and_reason(
    api: httpx.AsyncClient, pool: Pool, group: GroupOfTest, joined: tuple[Node, str]
) -> None:
    [job_id] = await make_jobs(pool, group, 1)
    answer = await follow(api, group, job_id)
    assert (answer["state"], answer["attempt"]) == ("received", 0)
    assert answer["reason"]
    [claimed] = await claim_jobs(pool, group, 1)
    await start(pool, joined[0], AttemptId(job_id, claimed["number"]))
    assert (await follow(api, group, job_id))["attempt"] == 1


async def test_a_job_that_is_over_is_not_followed(
    api: httpx.AsyncClient, pool: Pool, group: GroupOfTest
) -> None:
    [job_id] = await make_jobs(pool, group, 1)
    await call(api, "task-cancel", secret=group.user_secret, jobid=str(job_id))
    answer = await follow(api, group, job_id)
    assert answer == {"state": "cancelled", "attempt": 0, "reason": "cancelled before it ran"}
    assert await pool.fetchval("SELECT count(*) FROM follows") == 0


async def test_it_makes_no_event_and_changes_no_state(
    api: httpx.AsyncClient, pool: Pool, group: GroupOfTest, joined: tuple[Node, str]
) -> None:
    attempt = await started(pool, group, joined[0])
    before = await pool.fetch("SELECT * FROM jobs"), await pool.fetch("SELECT * FROM events")
    await follow(api, group, attempt.job_id)
    assert before == (
        await pool.fetch("SELECT * FROM jobs"),
        await pool.fetch("SELECT * FROM events"),
    )


async def test_the_node_of_a_followed_job_is_told_at_once(
    api: httpx.AsyncClient, pool: Pool, group: GroupOfTest, joined: tuple[Node, str]
) -> None:
    node, token = joined
    attempt = await started(pool, group, node)
    task = await waiting(api, token)
    await follow(api, group, attempt.job_id)
    assert (await soon(task))["follow"] == named(attempt)


async def test_only_the_node_that_runs_the_job_is_told(
    api: httpx.AsyncClient, pool: Pool, group: GroupOfTest, joined: tuple[Node, str]
) -> None:
    attempt, other = await claim(pool, group), await claim(pool, group)
    another, token = await make_node_with_token(pool, group)
    await start(pool, joined[0], attempt)
    await start(pool, another, other)
    await follow(api, group, attempt.job_id)
    assert (await report(api, token))["follow"] == []


async def test_a_job_that_was_followed_while_it_waited_is_named_when_it_starts(
    api: httpx.AsyncClient, pool: Pool, group: GroupOfTest, joined: tuple[Node, str]
) -> None:
    node, token = joined
    attempt = await claim(pool, group)
    await follow(api, group, attempt.job_id)
    task = await waiting(api, token)
    await start(pool, node, attempt)
    assert (await soon(task))["follow"] == named(attempt)


async def test_a_start_that_nobody_follows_wakes_no_report(
    api: httpx.AsyncClient, pool: Pool, group: GroupOfTest, joined: tuple[Node, str]
) -> None:
    async with no_notification(pool):
        await started(pool, group, joined[0])


async def test_a_repeated_call_neither_ends_nor_wakes_a_waiting_report(
    api: httpx.AsyncClient, pool: Pool, group: GroupOfTest, joined: tuple[Node, str]
) -> None:
    node, token = joined
    attempt = await started(pool, group, node)
    await follow(api, group, attempt.job_id)
    task = await waiting(api, token)
    async with no_notification(pool):
        for _ in range(3):
            await follow(api, group, attempt.job_id)
    assert not task.done()
    assert (await task)["follow"] == named(attempt)


async def test_the_end_of_following_is_told_when_the_period_is_over(
    api: httpx.AsyncClient, pool: Pool, group: GroupOfTest, joined: tuple[Node, str]
) -> None:
    node, token = joined
    attempt = await started(pool, group, node)
    await follow(api, group, attempt.job_id)
    said = (await report(api, token))["said"]
    await age_follows(pool, 1.0)
    assert (await report(api, token, known=said))["follow"] == []


async def test_a_job_that_is_followed_again_is_told_at_once(
    api: httpx.AsyncClient, pool: Pool, group: GroupOfTest, joined: tuple[Node, str]
) -> None:
    node, token = joined
    attempt = await started(pool, group, node)
    await follow(api, group, attempt.job_id)
    await age_follows(pool, 1.0)
    task = await waiting(api, token)
    await follow(api, group, attempt.job_id)
    assert (await soon(task))["follow"] == named(attempt)


async def test_a_start_at_the_moment_of_the_call_is_told_by_the_next_call(
    api: httpx.AsyncClient, pool: Pool, group: GroupOfTest, joined: tuple[Node, str]
) -> None:
    """Neither of two transactions at once sees the other, so neither tells the node."""
    node, token = joined
    attempt = await claim(pool, group)
    await follow(api, group, attempt.job_id)
    # As if the start had not seen the call.
    await pool.execute("ALTER TABLE jobs DISABLE TRIGGER jobs_tell_node")
    task = await waiting(api, token)
    await start(pool, node, attempt)
    await pool.execute("ALTER TABLE jobs ENABLE TRIGGER jobs_tell_node")
    await follow(api, group, attempt.job_id)
    assert (await soon(task))["follow"] == named(attempt)


async def test_jobs_that_nobody_follows_any_more_are_forgotten(
    api: httpx.AsyncClient, pool: Pool, group: GroupOfTest
) -> None:
    forgotten, kept = await make_jobs(pool, group, 2)
    await follow(api, group, forgotten)
    await age_follows(pool, 120.0)
    await follow(api, group, kept)
    await delete_old_follows(pool)
    assert [row["job_id"] for row in await pool.fetch("SELECT job_id FROM follows")] == [kept]
