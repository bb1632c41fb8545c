"""Calls of node agents that find no connection are answered "try again", as those of users."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import httpx
import pytest
from pydantic import SecretStr
from service_world import (
    GroupOfTest,
    PostgresOfTest,
    holding,
    make_group,
    make_node_with_token,
    running_service,
    signing_request,
    until_blocked,
)

from leruli_queue.access.roles import RULES, Call, Role
from leruli_queue.settings import Settings
from leruli_queue.store.pool import Pool, open_pool

_ATTEMPT: dict[str, Any] = {"jobid": str(uuid4()), "attempt": 1}
BODIES: dict[Call, dict[str, Any]] = {
    Call.NODE_JOIN: {"name": "machine", "cores": 4, "memorymb": 8000},
    Call.NODE_LEAVE: {},
    Call.NODE_CERTIFICATE: {},
    Call.NODE_REPORT: {},
    Call.ATTEMPT_START: _ATTEMPT | {"startkey": "start-key"},
    Call.ATTEMPT_UPLOAD: _ATTEMPT,
    Call.SLOT_NEXT: {"slots": [_ATTEMPT | {"key": "key-of-a-slot", "most": 1}]},
    Call.ATTEMPT_END: _ATTEMPT | {"outcome": "ended", "exitcode": 0},
}


def test_no_call_of_nodes_is_forgotten() -> None:
    nodes = {call for call, rule in RULES.items() if rule.may.keys() & {Role.NODE, Role.MACHINE}}
    assert nodes == BODIES.keys()


async def ask(
    service: httpx.AsyncClient, call: Call, group: GroupOfTest, token: str
) -> httpx.Response:
    secrets = {
        "nodetoken": token,
        "grouptoken": group.token,
        "computesecret": group.compute_secret,
        "csr": signing_request(),
    }
    return await service.post(f"/v22_1/{call}", json=BODIES[call] | secrets)


@pytest.mark.parametrize("call", list(BODIES))
async def test_a_node_that_finds_no_connection_is_told_to_retry(
    settings: Settings, group: GroupOfTest, pool: Pool, call: Call
) -> None:
    _, token = await make_node_with_token(pool, group)
    small = settings.model_copy(update={"database_pool_size": 2, "busy_after_s": 0.3})
    job = {"secret": group.user_secret, "codeversion": "psi4:1.5"}
    async with running_service(small) as service:
        async with holding(settings, "LOCK TABLE jobs IN EXCLUSIVE MODE"):
            waiting = [
                asyncio.create_task(
                    service.post("/v22_1/task-submit", json=job | {"bucketid": str(uuid4())})
                )
                for _ in range(2)
            ]
            await until_blocked(pool, 2)
            busy = await asyncio.wait_for(ask(service, call, group, token), 10)
            assert (busy.status_code, busy.headers["Retry-After"]) == (503, "2")
            assert "busy" in busy.json()["detail"]
        assert {answer.status_code for answer in await asyncio.gather(*waiting)} == {200}


async def test_nodes_go_on_after_the_database_hung(
    own_postgres: PostgresOfTest, settings: Settings
) -> None:
    settings = settings.model_copy(
        update={
            "database_url": SecretStr(own_postgres.url),
            "database_pool_size": 2,
            "database_timeout_s": 1.0,
            "busy_after_s": 0.3,
        }
    )
    async with running_service(settings) as service:
        async with open_pool(settings) as pool:
            group = await make_group(pool, "chemists")
            _, token = await make_node_with_token(pool, group)
        assert (await ask(service, Call.NODE_REPORT, group, token)).status_code == 200
        with own_postgres.standing_still():
            # In sequence on two connections they would take minutes.
            calls = (ask(service, call, group, token) for _ in range(20) for call in BODIES)
            answers = await asyncio.wait_for(asyncio.gather(*calls), 30)
        assert {answer.status_code for answer in answers} == {503}
        assert {answer.headers["Retry-After"] for answer in answers} == {"2"}
        for call, expected in ((Call.NODE_REPORT, 200), (Call.ATTEMPT_START, 409)):
            for _ in range(20):
                answer = await ask(service, call, group, token)
                if answer.status_code != 503:
                    break
            assert answer.status_code == expected, answer.text
