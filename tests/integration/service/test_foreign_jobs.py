"""Unknown and foreign jobs cannot be distinguished by answer, header, log line or work."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from asyncpg.connection import LoggedQuery
from service_world import (
    GroupOfTest,
    make_group,
    make_jobs,
    make_node,
    running_service,
    signing_request,
)

from leruli_queue.access.authorise import authorise_user
from leruli_queue.access.roles import Call
from leruli_queue.jobs.attempts import AttemptId, StaleAttemptError, allow_upload, start_attempt
from leruli_queue.jobs.bucket import Purpose, job_bucket
from leruli_queue.jobs.cancel import cancel_job
from leruli_queue.jobs.detail import job_detail
from leruli_queue.jobs.follow import follow_job
from leruli_queue.jobs.status import UnknownJobError, job_status
from leruli_queue.settings import Settings
from leruli_queue.store.pool import Pool

CALLS: dict[Call, Callable[..., Awaitable[Any]]] = {
    Call.TASK_STATUS: job_status,
    Call.TASK_FOLLOW: follow_job,
    Call.TASK_CANCEL: cancel_job,
    Call.TASK_DETAIL: job_detail,
    Call.TASK_BUCKET: partial(job_bucket, purpose=Purpose.GET),
}


@pytest.fixture
async def foreign(pool: Pool) -> UUID:
    other = await make_group(pool, "physicists")
    [job_id] = await make_jobs(pool, other, 1)
    return job_id


@pytest.fixture
async def anothers(pool: Pool, group: GroupOfTest) -> UUID:
    """A job of another user of the same group."""
    [job_id] = await make_jobs(pool, group, 1)
    await pool.execute(
        "UPDATE jobs SET user_id = (SELECT min(id) FROM users) WHERE id = $1", job_id
    )
    return job_id


@pytest.mark.parametrize("call", list(CALLS))
async def test_answers_headers_and_log_lines_are_the_same(
    service: httpx.AsyncClient,
    group: GroupOfTest,
    foreign: UUID,
    anothers: UUID,
    call: Call,
    capsys: pytest.CaptureFixture[str],
) -> None:
    seen = set()
    for job_id in (foreign, anothers, uuid4(), "nonsense"):
        capsys.readouterr()
        answer = await service.post(
            f"/v22_1/{call}", json={"secret": group.user_secret, "jobid": str(job_id)}
        )
        headers = {name: answer.headers[name] for name in answer.headers if name != "x-request-id"}
        lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
        for line in lines:
            for varying in ("request_id", "milliseconds", "timestamp"):
                line.pop(varying, None)
        seen.add(f"{answer.status_code} {answer.text} {headers} {lines}")
    assert len(seen) == 1, seen
    assert seen.pop().startswith("404 ")


@pytest.mark.parametrize("call", list(CALLS))
async def test_the_same_statements_are_run(
    pool: Pool, group: GroupOfTest, foreign: UUID, anothers: UUID, call: Call
) -> None:
    """Equal statements take equal time. Time itself is too noisy to compare in a test."""
    traces: list[list[str]] = []
    async with pool.acquire() as connection, connection.transaction():
        user = await authorise_user(connection, call, group.user_secret)
        # The first round is left out: in it asyncpg asks for the types of each statement.
        for job_id in (uuid4(), foreign, anothers, uuid4()):
            trace: list[str] = []
            connection.add_query_logger(log := partial(note_query, trace))
            with pytest.raises(UnknownJobError):
                await CALLS[call](connection, user, job_id)
            connection.remove_query_logger(log)
            traces.append(trace)
    assert traces[1]
    assert traces[1] == traces[2] == traces[3]


def note_query(trace: list[str], record: LoggedQuery) -> None:
    trace.append(record.query)


async def test_nodes_cannot_tell_them_apart_either(
    pool: Pool, group: GroupOfTest, foreign: UUID
) -> None:
    node = await make_node(pool, group)
    for ask in (allow_upload, partial(start_attempt, start_key="startkey")):
        sentences = []
        for job_id in (foreign, uuid4()):
            with pytest.raises(StaleAttemptError) as refusal:
                await ask(pool, node, AttemptId(job_id, 1))
            sentences.append(refusal.value.message)
        assert sentences[0] == sentences[1]


async def test_a_foreign_node_id_is_answered_as_an_unknown_one(
    nomad_settings: Settings, group: GroupOfTest, pool: Pool
) -> None:
    other = await make_group(pool, "physicists")
    theirs = await make_node(pool, other)
    ours = await make_node(pool, group)
    body = {"grouptoken": group.token, "computesecret": group.compute_secret}
    body |= {"name": "machine", "cores": 1, "memorymb": 1000, "csr": signing_request()}
    async with running_service(nomad_settings) as service:

        async def join_as(node_id: UUID) -> str:
            answer = await service.post("/v22_1/node-join", json=body | {"nodeid": str(node_id)})
            assert answer.status_code == 200, answer.text
            given: str = answer.json()["nodeid"]
            return given

        unknown = uuid4()
        assert await join_as(ours.id) == str(ours.id)
        assert await join_as(theirs.id) != str(theirs.id)
        assert await join_as(unknown) != str(unknown)
    row = await pool.fetchrow("SELECT group_id FROM nodes WHERE id = $1", theirs.id)
    assert row["group_id"] == other.id
