"""task-report: what jobs used, beside what they asked for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from measured_world import USED
from service_world import GroupOfTest, call, claim_jobs, make_jobs, make_node_with_token, make_user

from leruli_queue.store.pool import Pool

RECEIPT = {"outcome": "ended", "exitcode": 0, **USED}
NOT_MEASURED = dict.fromkeys(
    [
        *("queueseconds", "placeseconds", "imageseconds", "inputseconds", "wallseconds"),
        *("outputseconds", "cpuseconds", "peakmemorymb", "peaknocachemb", "diskmb"),
    ]
)


async def report(service: httpx.AsyncClient, secret: str, **body: Any) -> Any:
    return await call(service, "task-report", secret=secret, **body)


async def run(
    service: httpx.AsyncClient, pool: Pool, group: GroupOfTest, token: str, **more: Any
) -> None:
    """Run the oldest job in the backlog to the end of its attempt."""
    [claim] = await claim_jobs(pool, group, 1)
    about = {"nodetoken": token, "jobid": str(claim["job_id"]), "attempt": claim["number"]}
    await call(service, "attempt-start", **about, startkey="start-key-1")
    await call(service, "attempt-end", **about, **(RECEIPT | more))


async def test_a_job_with_what_it_asked_for_and_used(
    service: httpx.AsyncClient, pool: Pool, group: GroupOfTest
) -> None:
    _, token = await make_node_with_token(pool, group)
    [job_id] = await make_jobs(pool, group, 1, name="water", cores=2, disk_mb=500)
    await run(service, pool, group, token)
    await pool.execute(
        "UPDATE jobs SET received_at = now() - interval '60 s';"
        "UPDATE attempts SET claimed_at = now() - interval '50 s',"
        "                    started_at = now() - interval '45 s'"
    )
    answer = await report(service, group.user_secret, jobids=[str(job_id)])
    [found] = answer["jobs"]
    used = found.pop("used")
    assert found == {
        "jobid": str(job_id), "name": "water", "code": "psi4", "version": "1.3.2",
        "state": "completed", "attempts": 1, "outcome": "ended",
        "cores": 2, "memorymb": 4000, "timelimit": 3600, "diskmb": 500,
    }  # fmt: skip
    assert used.pop("queueseconds") == pytest.approx(10)
    assert used.pop("placeseconds") == pytest.approx(5)
    assert used == {key: RECEIPT[key] for key in used}
    assert used.keys() < NOT_MEASURED.keys()
    assert answer["next"] is None


async def test_only_own_jobs_that_have_ended_are_answered_in_the_order_of_the_question(
    service: httpx.AsyncClient, pool: Pool, group: GroupOfTest
) -> None:
    first, second, waiting = await make_jobs(pool, group, 3)
    [others] = await make_jobs(pool, group, 1, secret=group.admin_secret)
    for job_id in (first, second, others):
        await pool.execute(
            "UPDATE jobs SET state = 'failed', ended_at = now() WHERE id = $1", job_id
        )
    asked = [str(one) for one in (second, waiting, others, uuid4(), first, second)] + ["no id"]
    for secret, expected in (
        (group.user_secret, [second, first]),
        (group.admin_secret, [others]),
    ):
        jobs = (await report(service, secret, jobids=asked))["jobs"]
        assert [UUID(job["jobid"]) for job in jobs] == expected
    # It never had an attempt.
    assert jobs[0]["outcome"] is None
    assert jobs[0]["used"] == NOT_MEASURED


async def test_a_retried_job_is_measured_by_its_last_attempt(
    service: httpx.AsyncClient, pool: Pool, group: GroupOfTest
) -> None:
    _, token = await make_node_with_token(pool, group)
    job = {"secret": group.user_secret, "bucketid": str(uuid4()), "codeversion": "psi4:1.5"}
    rule = {"retry": 2, "retryon": ["out-of-memory"], "retrymemorymb": 4000}
    job_id = await call(service, "task-submit", **job, memorymb=1000, **rule)
    await run(service, pool, group, token, outcome="out_of_memory", exitcode=137)
    await run(service, pool, group, token, peaknocachemb=1500)
    [found] = (await report(service, group.user_secret, jobids=[job_id]))["jobs"]
    assert (found["attempts"], found["memorymb"], found["outcome"]) == (2, 2000, "ended")
    assert found["used"]["peaknocachemb"] == 1500


async def test_a_batch_is_answered_page_by_page(
    service: httpx.AsyncClient, pool: Pool, group: GroupOfTest
) -> None:
    """Each job that ended once, whatever the size of the page; many end at the same time."""
    batch = uuid4()
    jobs = await _submit(service, group, batch, 12)
    await _submit(service, group, uuid4(), 2)
    at = datetime.now(UTC)
    for number, job_id in enumerate(jobs[:10]):
        await pool.execute(
            "UPDATE jobs SET state = $2::text::job_state, ended_at = $3 WHERE id = $1",
            job_id,
            ("completed", "failed", "cancelled")[number % 3],
            at + timedelta(seconds=number // 6),
        )
    whole = await report(service, group.user_secret, batchid=str(batch))
    assert {UUID(job["jobid"]) for job in whole["jobs"]} == set(jobs[:10])
    assert whole["next"] is None
    for limit in (1, 3, 5, 10):
        seen: list[Any] = []
        page: dict[str, Any] = {"next": None}
        while not seen or page["next"]:
            asked = {"batchid": str(batch), "limit": limit, "after": page["next"]}
            page = await report(service, group.user_secret, **asked)
            assert len(page["jobs"]) <= limit
            seen += page["jobs"]
        assert seen == whole["jobs"]


async def test_what_cannot_be_reported(
    service: httpx.AsyncClient, pool: Pool, group: GroupOfTest
) -> None:
    batch, other = uuid4(), uuid4()
    [waiting] = await _submit(service, group, batch, 1)
    [ended] = await _submit(service, group, other, 1)
    await pool.execute("UPDATE jobs SET state = 'failed', ended_at = now() WHERE id = $1", ended)
    mate = await make_user(pool, group)
    assert mate.id
    refused: list[tuple[str, dict[str, Any], int]] = [
        (group.user_secret, {"batchid": str(uuid4())}, 404),
        (group.admin_secret, {"batchid": str(batch)}, 404),
        (group.user_secret, {"batchid": str(batch), "after": str(waiting)}, 404),
        (group.user_secret, {"batchid": str(batch), "after": str(ended)}, 404),
        (group.user_secret, {}, 422),
        (group.user_secret, {"batchid": str(batch), "jobids": []}, 422),
        (group.user_secret, {"jobids": [str(waiting)] * 1001}, 422),
    ]
    for secret, body, status in refused:
        answer = await service.post("/v22_1/task-report", json={"secret": secret} | body)
        assert answer.status_code == status, answer.text


async def _submit(
    service: httpx.AsyncClient, group: GroupOfTest, batch: UUID, number: int
) -> list[UUID]:
    bodies = [
        {"secret": group.user_secret, "bucketid": str(uuid4()), "codeversion": "psi4:1.5"}
        | {"batchid": str(batch)}
        for _ in range(number)
    ]
    answer = await service.post("/v22_1/bulk/task-submit", json=bodies)
    return [UUID(entry["data"]) for entry in answer.json()]
