"""Floods: one client's requests must not block the answers to others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
from service_world import (
    GroupOfTest,
    holding,
    make_group,
    make_jobs,
    running_service,
    until_blocked,
)

from leruli_queue.api.routes import groups as routes
from leruli_queue.groups import usage
from leruli_queue.settings import Settings
from leruli_queue.store.pool import Pool

POOL = 4


@pytest.fixture
async def service(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    # Long enough for calls to wait for each other on a busy machine.
    small = settings.model_copy(update={"database_pool_size": POOL, "busy_after_s": 60.0})
    async with running_service(small) as client:
        yield client


async def test_a_long_wrong_list_is_refused_at_its_first_fault(
    service: httpx.AsyncClient,
) -> None:
    """Without a secret, the sentences about 2 million faults took 59 s and 2.4 GB."""
    calls = (await service.get("/openapi.json")).json()
    tried = 0
    for path, body in lists_of(calls):
        answer = await service.post(path, json=body)
        assert answer.status_code == 422, path
        # The missing secrets, and the list's first fault.
        faults = answer.json()["detail"].split("; ")
        assert sum("it is missing" not in fault for fault in faults) == 1, (path, faults)
        tried += 1
    assert tried >= 7


def lists_of(openapi: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """A body with 20,000 wrong entries for each list of a call."""
    wrong = [None] * 20_000
    schemas = openapi["components"]["schemas"]
    for path, call in openapi["paths"].items():
        if not path.startswith("/v22_1/"):
            continue
        schema = call["post"]["requestBody"]["content"]["application/json"]["schema"]
        if schema.get("type") == "array":
            yield path, wrong
            continue
        properties = schemas[schema["$ref"].rsplit("/", 1)[1]]["properties"]
        for name, field in properties.items():
            if any(kind.get("type") == "array" for kind in (field, *field.get("anyOf", []))):
                yield path, {name: wrong}


async def test_polls_do_not_wait_for_a_long_cancellation(
    service: httpx.AsyncClient, group: GroupOfTest, pool: Pool, settings: Settings
) -> None:
    """All want to store the use of the secret, which the cancellation has not committed yet."""
    [job_id] = await make_jobs(pool, group, 1)
    await pool.execute("UPDATE users SET last_used_at = NULL")
    body = {"secret": group.user_secret, "jobid": str(job_id)}
    async with holding(settings, "SELECT FROM jobs FOR UPDATE"):
        cancelling = asyncio.create_task(service.post("/v22_1/task-cancel", json=body))
        await until_blocked(pool, 1)
        polls = asyncio.gather(
            *(service.post("/v22_1/task-status", json=body) for _ in range(2 * POOL))
        )
        answers = await asyncio.wait_for(polls, 5)
        assert {answer.status_code for answer in answers} == {200}
        assert not cancelling.done()
    assert (await cancelling).json()["status"] == "cancelled"


@pytest.mark.parametrize("call", ["group-usage", "bulk/task-cancel"])
async def test_a_revocation_gets_a_connection_during_any_number_of_long_calls(
    service: httpx.AsyncClient, group: GroupOfTest, pool: Pool, settings: Settings, call: str
) -> None:
    await make_jobs(pool, group, 1)
    body: dict[str, object] = {
        "grouptoken": group.token,
        "secret": group.admin_secret,
        "filter": {"states": ["received"]},
    }
    await pool.execute("UPDATE jobs SET user_id = (SELECT id FROM users WHERE role = 'admin')")
    # Stands for a group with millions of jobs: each call waits and holds its connection.
    lock = "LOCK attempts" if call == "group-usage" else "SELECT FROM jobs FOR UPDATE"
    async with holding(settings, lock):
        long_calls = [
            asyncio.create_task(service.post(f"/v22_1/{call}", json=body)) for _ in range(3 * POOL)
        ]
        await until_blocked(pool, 1)
        revocation = {"adminsecret": group.admin_secret, "name": "ada"}
        answer = await asyncio.wait_for(
            service.post("/v22_1/group-revoke-user", json=revocation), 5
        )
        assert answer.status_code == 200
    assert {answer.status_code for answer in await asyncio.gather(*long_calls)} == {200}


@pytest.mark.parametrize("first_call", ["group-usage", "bulk/task-cancel"])
async def test_long_calls_of_one_group_do_not_block_other_groups(
    settings: Settings,
    group: GroupOfTest,
    pool: Pool,
    monkeypatch: pytest.MonkeyPatch,
    first_call: str,
) -> None:
    """M11: loops of group-usage held all permits. The long group-usage is a FAKE here."""
    lasts = asyncio.Event()

    async def usage_that_lasts(*_: object) -> list[object]:
        await lasts.wait()
        return []

    monkeypatch.setattr(routes, "group_usage", usage_that_lasts)
    other = await make_group(pool, "physicists")
    await make_jobs(pool, group, 1)
    await make_jobs(pool, other, 1)
    enough = settings.model_copy(update={"database_pool_size": 8, "busy_after_s": 60.0})
    received: dict[str, object] = {"filter": {"states": ["received"]}}
    lock = f"SELECT FROM jobs WHERE group_id = {group.id} FOR UPDATE"
    async with running_service(enough) as service:
        async with holding(settings, lock):
            body = received | {"grouptoken": group.token, "secret": group.user_secret}
            flood = [
                asyncio.create_task(service.post(f"/v22_1/{first_call}", json=body))
                for _ in range(20)
            ]
            await asyncio.sleep(0.5)
            cancelling = service.post(
                "/v22_1/bulk/task-cancel", json=received | {"secret": other.user_secret}
            )
            answer = await asyncio.wait_for(cancelling, 5)
            assert answer.json() == {"cancelled": 1, "stopping": 0}
            # A wrong secret is refused without a permit.
            wrong = received | {"secret": other.token, "grouptoken": other.user_secret}
            refused = await asyncio.wait_for(service.post(f"/v22_1/{first_call}", json=wrong), 5)
            assert refused.status_code == 403
            lasts.set()
        assert {answer.status_code for answer in await asyncio.gather(*flood)} == {200}


async def test_usage_of_too_many_rows_is_refused(
    service: httpx.AsyncClient, group: GroupOfTest, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage, "MAX_ROWS", 2)
    await make_jobs(pool, group, 3)
    await pool.execute("UPDATE jobs SET state = 'completed', ended_at = now(), version = bucket")
    body = {"grouptoken": group.token}
    answer = await service.post("/v22_1/group-usage", json=body)
    assert answer.status_code == 422
    assert "more than 2 rows" in answer.json()["detail"]
    answer = await service.post("/v22_1/group-usage", json=body | {"by": ["user"]})
    assert answer.json()["rows"][0]["jobs"] == 3


async def test_a_call_without_a_free_connection_gets_503(
    settings: Settings, group: GroupOfTest, pool: Pool
) -> None:
    small = settings.model_copy(update={"database_pool_size": 2, "busy_after_s": 0.3})
    async with running_service(small) as service:
        async with holding(settings, "LOCK TABLE jobs IN EXCLUSIVE MODE"):
            waiting = [asyncio.create_task(submit(service, group)) for _ in range(2)]
            await until_blocked(pool, 2)
            busy = await submit(service, group)
        assert busy.status_code == 503
        assert busy.headers["Retry-After"] == "2"
        assert "busy" in busy.json()["detail"]
        assert [answer.status_code for answer in await asyncio.gather(*waiting)] == [200, 200]
        assert (await submit(service, group)).status_code == 200
    assert await pool.fetchval("SELECT count(*) FROM jobs") == 3


@pytest.mark.parametrize("call", ["group-usage", "bulk/task-cancel"])
async def test_long_calls_that_wait_too_long_for_a_permit_get_503(
    settings: Settings, group: GroupOfTest, pool: Pool, call: str
) -> None:
    await make_jobs(pool, group, 1)
    body: dict[str, object] = {
        "grouptoken": group.token,
        "secret": group.user_secret,
        "filter": {"states": ["received"]},
    }
    small = settings.model_copy(update={"database_pool_size": POOL, "busy_after_s": 0.3})
    lock = "LOCK attempts" if call == "group-usage" else "SELECT FROM jobs FOR UPDATE"
    async with running_service(small) as service:
        async with holding(settings, lock):
            first = asyncio.create_task(service.post(f"/v22_1/{call}", json=body))
            await until_blocked(pool, 1)
            others = (service.post(f"/v22_1/{call}", json=body) for _ in range(3 * POOL))
            busy = await asyncio.wait_for(asyncio.gather(*others), 5)
            assert not first.done()
        assert {(answer.status_code, answer.headers["Retry-After"]) for answer in busy} == {
            (503, "2")
        }
        assert (await first).status_code == 200
        # A call that timed out holds no permit.
        assert (await service.post(f"/v22_1/{call}", json=body)).status_code == 200


async def test_a_long_call_without_a_free_connection_gets_503(
    settings: Settings, group: GroupOfTest, pool: Pool
) -> None:
    small = settings.model_copy(update={"database_pool_size": 2, "busy_after_s": 0.3})
    body = {"secret": group.user_secret, "filter": {"states": ["received"]}}
    async with running_service(small) as service:
        async with holding(settings, "LOCK TABLE jobs IN EXCLUSIVE MODE"):
            waiting = [asyncio.create_task(submit(service, group)) for _ in range(2)]
            await until_blocked(pool, 2)
            cancelling = service.post("/v22_1/bulk/task-cancel", json=body)
            busy = await asyncio.wait_for(cancelling, 5)
        assert (busy.status_code, busy.headers["Retry-After"]) == (503, "2")
        assert [answer.status_code for answer in await asyncio.gather(*waiting)] == [200, 200]


async def submit(service: httpx.AsyncClient, group: GroupOfTest) -> httpx.Response:
    body = {"secret": group.user_secret, "bucketid": str(uuid4()), "codeversion": "psi4:1.5"}
    return await service.post("/v22_1/task-submit", json=body)
