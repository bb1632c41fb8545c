"""The limit of the backlog: how many jobs of a group and of a user may be queued."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import uuid4

import httpx
import pytest
from service_world import GroupOfTest, make_group, running_service

from leruli_queue.jobs import backlog
from leruli_queue.settings import Settings
from leruli_queue.store.pool import Pool

MOST = 3


@pytest.fixture
async def service(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[httpx.AsyncClient]:
    # Normally queued jobs are counted once a second at most; here for each request.
    monkeypatch.setattr(backlog, "_COUNT_EVERY_S", 0)
    monkeypatch.setattr(backlog, "_COUNT_SHARE", 0)
    async with running_service(settings.model_copy(update={"max_waiting": MOST})) as client:
        yield client


def jobs(group: GroupOfTest, count: int) -> list[dict[str, str]]:
    return [
        {"secret": group.user_secret, "bucketid": str(uuid4()), "codeversion": "psi4:1.5"}
        for _ in range(count)
    ]


async def test_a_group_with_a_full_backlog_gets_503_and_a_retry_time(
    service: httpx.AsyncClient, group: GroupOfTest, pool: Pool
) -> None:
    [first, *_] = answers = [
        (await service.post("/v22_1/task-submit", json=job)).json() for job in jobs(group, MOST)
    ]
    assert await pool.fetchval("SELECT count(*) FROM jobs") == len(answers) == MOST
    for path, body in (
        ("task-submit", jobs(group, 1)[0]),
        ("bulk/task-submit", jobs(group, 1)),
    ):
        answer = await service.post(f"/v22_1/{path}", json=body)
        assert answer.status_code == 503
        assert answer.headers["Retry-After"] == "60"
        assert answer.json()["detail"].startswith("The group has 3 jobs waiting, and at most 3")
    assert await pool.fetchval("SELECT count(*) FROM jobs") == MOST
    await service.post("/v22_1/task-cancel", json={"secret": group.user_secret, "jobid": first})
    assert (await service.post("/v22_1/task-submit", json=jobs(group, 1)[0])).status_code == 200


async def test_a_request_is_accepted_whole_while_there_is_capacity(
    service: httpx.AsyncClient, group: GroupOfTest, pool: Pool
) -> None:
    """A client repeats a request unchanged. Above the limit it would be refused for ever."""
    post = jobs(group, 50)
    for _ in range(2):
        answer = await service.post("/v22_1/bulk/task-submit", json=post)
        assert answer.status_code == 200, answer.text
        assert {entry["status"] for entry in answer.json()} == {200}
        more = await service.post("/v22_1/bulk/task-submit", json=jobs(group, 1))
        assert more.status_code == 503
        assert more.json()["detail"].startswith(
            "The group has 50 jobs waiting, and at most 3 may wait."
        )
        # All but two of the jobs end.
        await pool.execute(
            "UPDATE jobs SET state = 'completed' WHERE state = 'received' AND id NOT IN"
            " (SELECT id FROM jobs WHERE state = 'received' ORDER BY id LIMIT 2)"
        )
        post = jobs(group, 48)


async def test_one_of_several_concurrent_requests_is_accepted(
    service: httpx.AsyncClient,
    group: GroupOfTest,
    pool: Pool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(backlog, "_COUNT_EVERY_S", 3600)
    # The process knows the count from here on.
    assert (await service.post("/v22_1/task-submit", json=jobs(group, 1)[0])).is_success
    answers = await asyncio.gather(
        *(service.post("/v22_1/bulk/task-submit", json=jobs(group, 50)) for _ in range(8))
    )
    assert sorted(answer.status_code for answer in answers) == [200] + 7 * [503]
    assert await pool.fetchval("SELECT count(*) FROM jobs") == 51


async def test_one_group_takes_no_capacity_from_another(
    service: httpx.AsyncClient, group: GroupOfTest, pool: Pool
) -> None:
    other = await make_group(pool, "other")
    assert (await service.post("/v22_1/bulk/task-submit", json=jobs(group, MOST))).is_success
    assert (await service.post("/v22_1/bulk/task-submit", json=jobs(other, MOST))).is_success
    # A request for two groups is refused whole if one is full, so that it can be repeated.
    mixed = [*jobs(group, 1), *jobs(await make_group(pool, "third"), 1)]
    assert (await service.post("/v22_1/bulk/task-submit", json=mixed)).status_code == 503
    assert await pool.fetchval("SELECT count(*) FROM jobs") == 2 * MOST


async def test_queued_jobs_are_not_counted_for_each_submission(
    service: httpx.AsyncClient,
    group: GroupOfTest,
    pool: Pool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(backlog, "_COUNT_EVERY_S", 3600)
    assert (await service.post("/v22_1/bulk/task-submit", json=jobs(group, MOST - 1))).is_success
    await pool.execute("UPDATE jobs SET state = 'completed'")
    # By the count that the process knows there is capacity for one job.
    for status in (200, 503):
        answer = await service.post("/v22_1/task-submit", json=jobs(group, 1)[0])
        assert answer.status_code == status


async def test_one_user_takes_only_a_part_of_a_groups_capacity(
    settings: Settings, group: GroupOfTest, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One user filled the backlog, and all others of the group got 503 (hostile review, low)."""
    monkeypatch.setattr(backlog, "_COUNT_EVERY_S", 0)
    monkeypatch.setattr(backlog, "_COUNT_SHARE", 0)
    bounds = settings.model_copy(update={"max_waiting": 5, "max_waiting_user": MOST})
    other = replace(group, user_secret=group.admin_secret)
    async with running_service(bounds) as service:

        async def submit(of: GroupOfTest) -> httpx.Response:
            return await service.post("/v22_1/task-submit", json=jobs(of, 1)[0])

        for _ in range(MOST):
            assert (await submit(group)).status_code == 200
        refused = await submit(group)
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "60")
        why = f"One user has {MOST} jobs waiting, and at most {MOST} may wait."
        assert refused.json()["detail"].startswith(why)
        assert [(await submit(other)).status_code for _ in range(3)] == [200, 200, 503]
        assert (await submit(other)).json()["detail"].startswith("The group has 5 jobs waiting")
    assert await pool.fetchval("SELECT count(*) FROM jobs") == 5
