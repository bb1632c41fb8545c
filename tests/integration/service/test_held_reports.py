"""node-report as a long poll: what wakes a waiting report, and what it costs while it waits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from uuid import UUID

import httpx
import pytest
from held_report_world import PERIOD_S, SOON_S, holding_service, report, soon, waiting
from service_world import (
    GroupOfTest,
    call,
    claim_jobs,
    make_jobs,
    make_node_with_token,
)

from leruli_queue.access.authenticate import Node
from leruli_queue.api.held_reports import answer_held_reports
from leruli_queue.settings import Settings
from leruli_queue.store.pool import Pool


@pytest.fixture
async def api(settings: Settings, pool: Pool) -> AsyncIterator[httpx.AsyncClient]:
    async with holding_service(settings, pool, database_pool_size=2) as client:
        yield client


@pytest.fixture
async def joined(pool: Pool, group: GroupOfTest) -> tuple[Node, str]:
    return await make_node_with_token(pool, group)


async def start(api: httpx.AsyncClient, pool: Pool, group: GroupOfTest, token: str) -> UUID:
    [job_id] = await make_jobs(pool, group, 1)
    [claim] = await claim_jobs(pool, group, 1)
    attempt = {"jobid": str(job_id), "attempt": claim["number"]}
    await call(api, "attempt-start", nodetoken=token, startkey="start-key", **attempt)
    return job_id


async def cancel(api: httpx.AsyncClient, group: GroupOfTest, job_id: UUID) -> None:
    await call(api, "task-cancel", secret=group.user_secret, jobid=str(job_id))


async def test_a_cancellation_is_told_at_once(
    api: httpx.AsyncClient, pool: Pool, group: GroupOfTest, joined: tuple[Node, str]
) -> None:
    _, token = joined
    job_id = await start(api, pool, group, token)
    task = await waiting(api, token, job_id)
    await cancel(api, group, job_id)
    assert (await soon(task))["cancel"] == [{"jobid": str(job_id), "attempt": 1}]


async def test_an_attempt_that_was_granted_while_the_report_waits_is_named(
    api: httpx.AsyncClient, pool: Pool, group: GroupOfTest, joined: tuple[Node, str]
) -> None:
    _, token = joined
    task = await waiting(api, token)
    job_id = await start(api, pool, group, token)
    await cancel(api, group, job_id)
    assert (await soon(task))["cancel"] == [{"jobid": str(job_id), "attempt": 1}]


async def test_a_drain_is_told_at_once(
    api: httpx.AsyncClient, pool: Pool, joined: tuple[Node, str]
) -> None:
    node, token = joined
    task = await waiting(api, token)
    await pool.execute("UPDATE nodes SET drained_at = now() WHERE id = $1", node.id)
    assert (await soon(task))["standing"] == "drained"


async def test_an_abandoned_attempt_is_dropped_at_once(
    api: httpx.AsyncClient, pool: Pool, group: GroupOfTest, joined: tuple[Node, str]
) -> None:
    _, token = joined
    job_id = await start(api, pool, group, token)
    task = await waiting(api, token, job_id)
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(
            "UPDATE jobs SET state = 'received', started_at = NULL WHERE id = $1", job_id
        )
        await connection.execute(
            "UPDATE attempts SET stop_requested_at = now() WHERE job_id = $1", job_id
        )
    assert (await soon(task))["drop"] == [{"jobid": str(job_id), "attempt": 1}]


async def test_without_news_the_answer_comes_when_the_period_is_over(
    api: httpx.AsyncClient, joined: tuple[Node, str]
) -> None:
    _, token = joined
    said = (await report(api, token))["said"]
    began = time.monotonic()
    again = await report(api, token, known=said)
    assert again["said"] == said
    assert time.monotonic() - began >= PERIOD_S - 0.1


async def test_a_report_of_an_older_agent_does_not_wait(
    api: httpx.AsyncClient, joined: tuple[Node, str]
) -> None:
    _, token = joined
    for _ in range(2):
        began = time.monotonic()
        await report(api, token)
        assert time.monotonic() - began < PERIOD_S / 2


async def test_a_newer_report_of_the_node_ends_the_waiting_one(
    api: httpx.AsyncClient, joined: tuple[Node, str]
) -> None:
    _, token = joined
    task = await waiting(api, token)
    await report(api, token)
    await soon(task)


async def test_the_end_of_the_server_ends_waiting_reports(
    api: httpx.AsyncClient, joined: tuple[Node, str]
) -> None:
    _, token = joined
    task = await waiting(api, token)
    answer_held_reports()
    await soon(task)


async def test_waiting_reports_hold_no_connection_to_postgresql(
    api: httpx.AsyncClient, pool: Pool, group: GroupOfTest
) -> None:
    """The service has two connections here, and twenty reports wait."""
    nodes = [await make_node_with_token(pool, group) for _ in range(20)]
    tasks = [await waiting(api, token) for _, token in nodes[:2]]
    for _, token in nodes[2:]:
        said = (await report(api, token))["said"]
        tasks.append(asyncio.create_task(report(api, token, known=said)))
    await asyncio.sleep(0.5)
    began = time.monotonic()
    await call(api, "group-nodes", grouptoken=group.token)
    assert time.monotonic() - began < SOON_S
    await asyncio.gather(*tasks)
