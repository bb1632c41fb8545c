"""task-detail: all details of a job and its attempts."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import httpx
from service_world import (
    GroupOfTest,
    call,
    claim_jobs,
    hear,
    make_group,
    make_jobs,
    make_node_with_token,
)

from leruli_queue.store.pool import Pool

NOT_RUN = {"node": None, "peakmemorymb": None, "cpuseconds": None}


async def detail(service: httpx.AsyncClient, secret: str, job_id: UUID) -> dict[str, Any]:
    found: dict[str, Any] = await call(service, "task-detail", secret=secret, jobid=str(job_id))
    return found


async def run_attempt(
    service: httpx.AsyncClient, pool: Pool, group: GroupOfTest, token: str, **receipt: Any
) -> None:
    """Run an attempt of the oldest queued job as a node does. Without a receipt it runs on."""
    await pool.execute("UPDATE jobs SET not_before = NULL")
    [claim] = await claim_jobs(pool, group, 1)
    attempt = {"nodetoken": token, "jobid": str(claim["job_id"]), "attempt": claim["number"]}
    await call(service, "attempt-start", **attempt, startkey="startkey")
    if receipt:
        await call(service, "attempt-end", **attempt, **receipt)


async def test_a_queued_job(service: httpx.AsyncClient, group: GroupOfTest, pool: Pool) -> None:
    _, second = await make_jobs(pool, group, 2, name="water", disk_mb=500, priority=3)
    node, _ = await make_node_with_token(pool, group)
    await hear(pool, node)
    found = await detail(service, group.user_secret, second)
    listed = await call(service, "task-list", secret=group.user_secret)
    [of_list] = [job for job in listed["jobs"] if job["jobid"] == str(second)]
    extra = {"timelimit": 3600, "priority": 3, "cancelrequestedat": None, "retry": None}
    reason = "waiting for its turn: 1 job of the same user goes first"
    assert found == of_list | NOT_RUN | extra | {"reason": reason, "attempts": []}


async def test_every_attempt_says_where_it_ran_and_how_it_ended(
    service: httpx.AsyncClient, group: GroupOfTest, pool: Pool
) -> None:
    [job_id] = await make_jobs(pool, group, 1)
    names = ["node one", "node two", "node three"]
    tokens = []
    for name in names:
        node, token = await make_node_with_token(pool, group)
        await pool.execute("UPDATE nodes SET name = $1 WHERE id = $2", name, node.id)
        tokens.append(token)
    await run_attempt(
        service, pool, group, tokens[0], outcome="node_trouble", message="its disk failed"
    )
    used = {"exitcode": 3, "peakmemorymb": 1234, "cpuseconds": 61.5}
    await run_attempt(service, pool, group, tokens[1])
    running = await detail(service, group.user_secret, job_id)
    assert (running["node"], running["peakmemorymb"]) == ("node two", None)
    assert [attempt["state"] for attempt in running["attempts"]] == ["ended", "started"]
    await pool.execute("UPDATE attempts SET running_at = now() WHERE number = 2")
    running = await detail(service, group.user_secret, job_id)
    assert running["attempts"][1]["state"] == "running"
    await service.post(
        "/v22_1/attempt-end",
        json={"nodetoken": tokens[1], "jobid": str(job_id), "attempt": 2, "outcome": "ended"}
        | used,
    )
    found = await detail(service, group.user_secret, job_id)
    assert (found["state"], found["exitcode"]) == ("failed", 3)
    assert (found["node"], found["peakmemorymb"], found["cpuseconds"]) == ("node two", 1234, 61.5)
    assert found["reason"] == "its command ended with exit code 3"
    first, second = found["attempts"]
    for attempt in (first, second):
        assert attempt.pop("startedat") <= attempt.pop("endedat")
    assert first == {
        "number": 1, "node": "node one", "state": "ended", "outcome": "node_trouble",
        "message": "its disk failed", "exitcode": None, "peakmemorymb": None, "cpuseconds": None,
        "memorymb": 4000, "timelimit": 3600,
    }  # fmt: skip
    of_second = {"number": 2, "node": "node two", "state": "ended", "outcome": "ended"}
    assert second == of_second | {"message": None, "memorymb": 4000, "timelimit": 3600} | used


async def test_an_abandoned_attempt_is_stopped(
    service: httpx.AsyncClient, group: GroupOfTest, pool: Pool
) -> None:
    [job_id] = await make_jobs(pool, group, 1)
    _, token = await make_node_with_token(pool, group)
    await run_attempt(service, pool, group, token)
    await pool.execute("UPDATE attempts SET stop_requested_at = now(), message = 'it was silent'")
    assert (await detail(service, group.user_secret, job_id))["attempts"][0]["state"] == "stopping"
    await pool.execute("UPDATE jobs SET state = 'received', started_at = NULL")
    found = await detail(service, group.user_secret, job_id)
    [attempt] = found["attempts"]
    assert (attempt["state"], attempt["outcome"]) == ("stopped", None)
    assert attempt["message"] == "it was silent"
    assert attempt["endedat"] is not None
    assert found["node"] == "machine"


async def test_the_last_hundred_of_very_many_attempts_are_answered(
    service: httpx.AsyncClient, group: GroupOfTest, pool: Pool
) -> None:
    [job_id] = await make_jobs(pool, group, 1)
    await pool.execute("UPDATE jobs SET attempt = 150")
    await pool.execute(
        "INSERT INTO attempts (job_id, number, node_set, stop_requested_at)"
        " SELECT $1, n, '', now() FROM generate_series(1, 150) AS n",
        job_id,
    )
    found = await detail(service, group.user_secret, job_id)
    assert [attempt["number"] for attempt in found["attempts"]] == list(range(51, 151))
    assert {key: found[key] for key in NOT_RUN} == NOT_RUN


async def test_an_admin_sees_the_jobs_of_the_group_without_buckets(
    service: httpx.AsyncClient, group: GroupOfTest, pool: Pool
) -> None:
    [job_id] = await make_jobs(pool, group, 1)
    other = await make_group(pool, "physicists")
    found = await detail(service, group.admin_secret, job_id)
    assert found["user"] == "ada"
    bucket = await pool.fetchval("SELECT bucket FROM jobs")
    assert bucket not in str(found)
    for secret in (other.user_secret, other.admin_secret):
        body = {"secret": secret, "jobid": str(job_id)}
        assert (await service.post("/v22_1/task-detail", json=body)).status_code == 404


async def test_impossible_usage_in_a_receipt_is_refused(
    service: httpx.AsyncClient, group: GroupOfTest, pool: Pool
) -> None:
    [job_id] = await make_jobs(pool, group, 1)
    _, token = await make_node_with_token(pool, group)
    await run_attempt(service, pool, group, token)
    attempt = {"nodetoken": token, "jobid": str(job_id), "attempt": 1, "outcome": "ended"}
    unusable: dict[str, list[object]] = {
        "peakmemorymb": [-1, 2**31, "1", 1.5],
        "cpuseconds": [-0.1, 1e13, True],
    }
    for field, values in unusable.items():
        for value in values:
            hostile = attempt | {"exitcode": 0, field: value}
            answer = await service.post("/v22_1/attempt-end", json=hostile)
            assert answer.status_code == 422
            assert field in answer.json()["detail"]
    assert (await detail(service, group.user_secret, job_id))["attempts"][0]["state"] == "started"
