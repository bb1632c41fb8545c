from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
from service_world import GroupOfTest, running_service

from leruli_queue.access.authenticate import SecretRefusedError
from leruli_queue.access.authorise import authorise_user
from leruli_queue.access.roles import Call
from leruli_queue.access.secrets import SecretType, _checksum, make
from leruli_queue.api.context import Context
from leruli_queue.settings import Settings
from leruli_queue.store.pool import Pool


@pytest.fixture
async def service(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    quick = settings.model_copy(update={"refusal_delay_s": 0.5, "max_delayed_refusals": 3})
    async with running_service(quick) as client:
        yield client


async def token_of(service: httpx.AsyncClient, secret: str) -> httpx.Response:
    return await service.post("/v22_1/group-token", json={"secret": secret})


def wrong_with_the_key_of(secret: str) -> str:
    """A wrong secret by somebody who has seen the key id and can compute checksums."""
    kind, key_id, *_ = secret.split("-")
    body = f"{kind}-{key_id}-{'a' * 26}"
    return f"{body}-{_checksum(body)}"


async def test_answers_to_wrong_secrets_are_delayed_and_to_the_right_one_not(
    service: httpx.AsyncClient, group: GroupOfTest
) -> None:
    wrong = wrong_with_the_key_of(group.user_secret)
    for _ in range(9):
        assert (await token_of(service, wrong)).status_code == 403
    began = time.monotonic()
    assert (await token_of(service, wrong)).status_code == 403
    assert time.monotonic() - began >= 0.5
    # Same address, same key id, right secret: nobody can lock out somebody else.
    assert (await token_of(service, group.user_secret)).status_code == 200


async def test_beyond_the_most_delayed_answers_wrong_secrets_get_429_at_once(
    settings: Settings, group: GroupOfTest
) -> None:
    patient = settings.model_copy(update={"refusal_delay_s": 4.0, "max_delayed_refusals": 3})
    async with running_service(patient) as service:
        for _ in range(20):
            context_of(service).throttle.note("127.0.0.1", [None])
        flood = [
            asyncio.create_task(token_of(service, make(SecretType.API).text)) for _ in range(20)
        ]
        for answered in itertools.islice(asyncio.as_completed(flood), 17):
            assert (await answered).status_code == 429
        assert (await token_of(service, group.user_secret)).status_code == 200
        # The delayed answers are still delayed.
        assert sum(task.done() for task in flood) == 17
        statuses = [answer.status_code for answer in await asyncio.gather(*flood)]
        assert statuses.count(403) == 3


def context_of(service: httpx.AsyncClient) -> Context:
    transport: Any = service._transport
    context: Context = transport.app.state.context
    return context


async def test_secrets_in_a_bulk_post_are_counted_and_limited(
    service: httpx.AsyncClient, group: GroupOfTest
) -> None:
    def post(secrets: list[str]) -> list[dict[str, Any]]:
        return [
            {"secret": secret, "bucketid": str(uuid4()), "codeversion": "psi4:1.5"}
            for secret in secrets
        ]

    many = await service.post(
        "/v22_1/bulk/task-submit", json=post([make(SecretType.API).text for _ in range(11)])
    )
    assert many.status_code == 422
    assert "10 different secrets" in many.json()["detail"]
    began = time.monotonic()
    wrong = [make(SecretType.API).text for _ in range(10)]
    answer = await service.post("/v22_1/bulk/task-submit", json=post(wrong))
    assert {entry["status"] for entry in answer.json()} == {403}
    assert time.monotonic() - began >= 0.5
    mixed = await service.post("/v22_1/bulk/task-submit", json=post([wrong[0], group.user_secret]))
    assert [entry["status"] for entry in mixed.json()] == [403, 200]


async def test_a_request_without_a_wrong_secret_is_not_delayed(
    service: httpx.AsyncClient, group: GroupOfTest
) -> None:
    """Also if no job of the request got as far as a check of its secret."""
    for _ in range(10):
        await token_of(service, make(SecretType.API).text)
    faulty = {"secret": group.user_secret, "bucketid": str(uuid4()), "codeversion": "psi4"}
    for post in ([], [faulty]):
        began = time.monotonic()
        answer = await service.post("/v22_1/bulk/task-submit", json=post)
        assert [entry["status"] for entry in answer.json()] == [422] * len(post)
        assert time.monotonic() - began < 0.3


async def test_a_typing_error_is_found_without_a_query(pool: Pool, group: GroupOfTest) -> None:
    mistyped = group.user_secret[:-1] + ("a" if group.user_secret[-1] != "a" else "b")
    looked_up: list[str] = []
    async with pool.acquire() as connection:
        connection.add_query_logger(log := lambda record: looked_up.append(record.query))
        with pytest.raises(SecretRefusedError, match="its checksum does not match"):
            await authorise_user(connection, Call.GROUP_TOKEN, mistyped)
        assert looked_up == []
        await authorise_user(connection, Call.GROUP_TOKEN, group.user_secret)
        assert looked_up
        connection.remove_query_logger(log)


async def test_the_address_behind_a_trusted_proxy_counts(settings: Settings) -> None:
    # uvicorn puts the proxy's address into the scope. The service must read it from there.
    strict = settings.model_copy(update={"max_delayed_refusals": 0})
    async with running_service(strict) as service:
        app: Any = service._transport.app  # type: ignore[attr-defined]
        statuses = []
        for address in (*(f"10.0.0.{number}" for number in range(12)), *["10.0.1.1"] * 12):
            transport = httpx.ASGITransport(app, client=(address, 1))
            async with httpx.AsyncClient(transport=transport, base_url="http://service") as other:
                statuses.append((await token_of(other, "nonsense")).status_code)
        assert statuses[:12] == [403] * 12
        assert statuses[-1] == 429
