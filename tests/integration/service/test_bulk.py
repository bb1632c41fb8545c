"""bulk/task-status, bulk/task-cancel and task-list."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import httpx
import pytest
from service_world import (
    GroupOfTest,
    call,
    claim_jobs,
    holding,
    make_group,
    make_jobs,
    make_node,
    running_service,
    state_of,
    until_blocked,
)

from leruli_queue.jobs.attempts import AttemptId, start_attempt
from leruli_queue.settings import Settings
from leruli_queue.store.pool import Pool

UNKNOWN = "There is no such job, or it is not yours. Check the job id (leruli.job)."


async def ask(service: httpx.AsyncClient, call: str, secret: str, **fields: object) -> Any:
    answer = await service.post(f"/v22_1/{call}", json={"secret": secret, **fields})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def give_to_admin(pool: Pool, *job_ids: object) -> None:
    await pool.execute(
        "UPDATE jobs SET user_id = (SELECT id FROM users WHERE role = 'admin' "
        "AND group_id = jobs.group_id) WHERE id = ANY($1)",
        list(job_ids),
    )


async def test_statuses_are_in_order_and_foreign_jobs_are_unknown(
    service: httpx.AsyncClient, group: GroupOfTest, pool: Pool
) -> None:
    await make_node(pool, group)
    first, second, admins = await make_jobs(pool, group, 3)
    await give_to_admin(pool, admins)
    [foreign] = await make_jobs(pool, await make_group(pool, "physicists"), 1)
    await pool.execute("UPDATE jobs SET cores = 64 WHERE id = $1", second)
    asked = [str(second), "nonsense", str(foreign), str(admins), str(first), str(uuid4()), ""]

    entries = await ask(service, "bulk/task-status", group.user_secret, jobids=asked)

    assert [entry["status"] for entry in entries] == [200, 404, 404, 404, 200, 404, 404]
    assert entries[0]["data"]["status"] == "received"
    assert "waiting for a node with 64 cores" in entries[0]["data"]["reason"]
    assert entries[4]["data"] == {"status": "received", "reason": None}
    assert {entry["data"] for entry in entries if entry["status"] == 404} == {UNKNOWN}
    # The same job in the single call, and twice in one request.
    single = await ask(service, "task-status", group.user_secret, jobid=str(second))
    twice = await ask(service, "bulk/task-status", group.user_secret, jobids=[str(second)] * 2)
    assert twice == [{"status": 200, "data": single}] * 2
    seen = await ask(service, "bulk/task-status", group.admin_secret, jobids=asked)
    assert [entry["status"] for entry in seen] == [200, 404, 404, 200, 200, 404, 404]


async def test_buckets_lead_to_ones_own_jobs_only(
    service: httpx.AsyncClient, group: GroupOfTest, pool: Pool
) -> None:
    first, second, admins = await make_jobs(pool, group, 3)
    await give_to_admin(pool, admins)
    [foreign] = await make_jobs(pool, await make_group(pool, "physicists"), 1)
    jobs = [second, foreign, admins, first]
    names = {
        row["id"]: row["bucket"]
        for row in await pool.fetch("SELECT id, bucket FROM jobs WHERE id = ANY($1)", jobs)
    }
    asked = [*(names[job] for job in jobs), str(uuid4()), names[second]]

    entries = await ask(service, "bulk/task-find", group.user_secret, bucketids=asked)

    assert [entry["status"] for entry in entries] == [200, 404, 404, 200, 404, 200]
    assert [entries[place]["data"] for place in (0, 3, 5)] == [str(second), str(first), str(second)]
    # The same sentence for all others, without the bucket's name.
    assert {entry["data"] for entry in entries if entry["status"] == 404} == {
        "No job of yours was submitted with this bucket."
    }
    # Not even an admin learns whether another user's bucket exists.
    seen = await ask(service, "bulk/task-find", group.admin_secret, bucketids=asked)
    assert [entry["status"] for entry in seen] == [404, 404, 200, 404, 404, 404]
    assert await pool.fetchval("SELECT count(*) FROM audit WHERE action = 'job-fetched'") == 0


async def test_limits_of_a_post_of_buckets(service: httpx.AsyncClient, group: GroupOfTest) -> None:
    async def status(*buckets: str) -> tuple[int, str]:
        body = {"secret": group.user_secret, "bucketids": list(buckets)}
        answer = await service.post("/v22_1/bulk/task-find", json=body)
        return answer.status_code, answer.text

    assert await status() == (200, "[]")
    assert (await status(*[str(uuid4())] * 1000))[0] == 200
    code, text = await status(*[str(uuid4())] * 1001)
    assert code == 422
    assert "1000 buckets" in text
    for wrong in ("", "A-Bucket", "nul\0", group.user_secret):
        code, text = await status(wrong)
        assert code == 422
        assert group.user_secret not in text


@pytest.mark.parametrize("call", ["bulk/task-status", "bulk/task-cancel"])
async def test_limits_of_a_post(service: httpx.AsyncClient, group: GroupOfTest, call: str) -> None:
    async def status(**fields: object) -> tuple[int, str]:
        answer = await service.post(f"/v22_1/{call}", json={"secret": group.user_secret, **fields})
        return answer.status_code, answer.text

    assert await status(jobids=[]) == (200, "[]")
    code, text = await status(jobids=[str(uuid4())] * 1001)
    assert code == 422
    assert "1000" in text
    assert (await status(jobids=["x" * 101]))[0] == 422
    assert (await status())[0] == 422


async def test_bulk_cancel_answers_as_the_single_call_for_each_job(
    service: httpx.AsyncClient, group: GroupOfTest, pool: Pool
) -> None:
    node = await make_node(pool, group)
    running, done, waiting, admins = await make_jobs(pool, group, 4)
    claimed = await claim_jobs(pool, group, 2)
    assert {job["job_id"] for job in claimed} == {running, done}
    await start_attempt(pool, node, AttemptId(running, 1), "startkey1")
    await pool.execute("UPDATE jobs SET state = 'completed', ended_at = now() WHERE id = $1", done)
    await give_to_admin(pool, admins)
    asked = [str(job) for job in (waiting, running, done, admins)]

    entries = await ask(service, "bulk/task-cancel", group.user_secret, jobids=asked)

    assert entries == [
        {"status": 200, "data": {"status": "cancelled", "reason": "cancelled before it ran"}},
        {
            "status": 200,
            "data": {
                "status": "submitted",
                "reason": "cancellation was requested; it is being stopped",
            },
        },
        {
            "status": 200,
            "data": {"status": "completed", "reason": "the job has completed already"},
        },
        {"status": 404, "data": UNKNOWN},
    ]
    assert await pool.fetchval("SELECT stop_requested_at FROM attempts WHERE job_id = $1", running)
    assert await state_of(pool, admins) == ("received", None)
    assert await pool.fetchval("SELECT count(*) FROM audit WHERE action = 'job-cancelled'") == 0
    # A repeated call changes nothing, and its answers are those of the single call.
    again = await ask(service, "bulk/task-cancel", group.user_secret, jobids=asked)
    singles = [await ask(service, "task-cancel", group.user_secret, jobid=job) for job in asked[:3]]
    assert [entry["data"] for entry in again[:3]] == singles


async def test_an_admins_cancellation_of_others_jobs_is_audited_once(
    service: httpx.AsyncClient, group: GroupOfTest, pool: Pool
) -> None:
    node = await make_node(pool, group)
    started, waiting, own = await make_jobs(pool, group, 3)
    await claim_jobs(pool, group, 1)
    await start_attempt(pool, node, AttemptId(started, 1), "startkey1")
    await give_to_admin(pool, own)
    asked = [str(job) for job in (started, waiting, own)]
    for _ in range(2):
        entries = await ask(service, "bulk/task-cancel", group.admin_secret, jobids=asked)
        states = [entry["data"]["status"] for entry in entries]
        assert states == ["submitted", "cancelled", "cancelled"]
    noted = await pool.fetch(
        "SELECT a.subject, u.role FROM audit a JOIN users u ON u.id = a.actor_id "
        "WHERE a.action = 'job-cancelled' ORDER BY a.id"
    )
    assert [(row["subject"], row["role"]) for row in noted] == [
        (asked[0], "admin"),
        (asked[1], "admin"),
    ]


async def test_a_filter_cancels_ones_own_jobs_in_its_states(
    service: httpx.AsyncClient, group: GroupOfTest, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("leruli_queue.jobs.cancel.CANCELLED_AT_ONCE", 3)
    node = await make_node(pool, group)
    started, claimed, *waiting = await make_jobs(pool, group, 9)
    await claim_jobs(pool, group, 2)
    await start_attempt(pool, node, AttemptId(started, 1), "startkey1")
    [admins] = await make_jobs(pool, group, 1)
    await give_to_admin(pool, admins)

    async def cancel(*states: str, secret: str = group.user_secret) -> list[int]:
        done = await ask(service, "bulk/task-cancel", secret, filter={"states": list(states)})
        assert isinstance(done, dict)
        return [done["cancelled"], done["stopping"]]

    assert [await cancel("received") for _ in range(4)] == [[3, 0], [3, 0], [1, 0], [0, 0]]
    assert {await state_of(pool, job) for job in waiting} == {
        ("cancelled", "cancelled before it ran")
    }
    assert await state_of(pool, admins) == ("received", None)
    assert await cancel("submitted", "running") == [1, 1]
    assert await cancel("submitted", "running", "received") == [0, 0]
    assert (await state_of(pool, claimed))[0] == "cancelled"
    assert (await state_of(pool, started))[0] == "submitted"
    assert await cancel("received", secret=group.admin_secret) == [1, 0]


@pytest.mark.parametrize(
    "fields",
    [
        {"jobids": [], "filter": {"states": ["received"]}},
        {"filter": {"states": []}},
        {"filter": {"states": ["completed"]}},
        {"filter": {"states": ["nonsense"]}},
        {"filter": {}},
    ],
)
async def test_filters_that_are_refused(
    service: httpx.AsyncClient, group: GroupOfTest, fields: dict[str, object]
) -> None:
    body = {"secret": group.user_secret, **fields}
    assert (await service.post("/v22_1/bulk/task-cancel", json=body)).status_code == 422


async def test_concurrent_cancellations_of_the_same_jobs_do_not_deadlock(
    service: httpx.AsyncClient, group: GroupOfTest, pool: Pool
) -> None:
    jobs = [str(job) for job in await make_jobs(pool, group, 600)]
    by_ids = [
        ask(service, "bulk/task-cancel", group.user_secret, jobids=part)
        for part in (jobs, jobs[::-1], jobs[::2] + jobs[1::2])
    ]
    everything = ask(
        service, "bulk/task-cancel", group.user_secret, filter={"states": ["received"]}
    )
    answers = await asyncio.gather(*by_ids, everything)
    for entries in answers[:3]:
        assert {entry["data"]["status"] for entry in entries} == {"cancelled"}


async def test_filters_in_different_orders_wait_for_each_other(
    group: GroupOfTest, pool: Pool, settings: Settings
) -> None:
    """Each locked jobs of one state before the other. In the request's order that deadlocked."""
    jobs = await make_jobs(pool, group, 4)
    await pool.execute("UPDATE jobs SET state = 'submitted' WHERE id = ANY($1)", jobs[2:])
    seconds = f"SELECT FROM jobs WHERE id IN ('{jobs[1]}', '{jobs[3]}') FOR UPDATE"
    # Two calls of one group run at a time.
    enough = settings.model_copy(update={"database_pool_size": 16})
    async with running_service(enough) as service:
        async with holding(settings, seconds):
            calls = [
                asyncio.create_task(
                    ask(service, "bulk/task-cancel", group.user_secret, filter={"states": states})
                )
                for states in (["received", "submitted"], ["submitted", "received"])
            ]
            await until_blocked(pool, 2)
        first, second = await asyncio.gather(*calls)
    assert {str(first), str(second)} == {
        "{'cancelled': 4, 'stopping': 0}",
        "{'cancelled': 0, 'stopping': 0}",
    }


async def test_a_list_goes_page_by_page_through_ones_own_jobs(
    service: httpx.AsyncClient, group: GroupOfTest, pool: Pool
) -> None:
    jobs = await make_jobs(pool, group, 7)
    [admins] = await make_jobs(pool, group, 1)
    await give_to_admin(pool, admins)
    await pool.execute("UPDATE jobs SET state = 'failed' WHERE id = ANY($1)", jobs[:2])
    seen: list[str] = []
    after = None
    while True:
        page = await ask(service, "task-list", group.user_secret, limit=3, after=after)
        assert isinstance(page, dict)
        seen += [job["jobid"] for job in page["jobs"]]
        after = page["next"]
        if after is None:
            break
    assert seen == [str(job) for job in reversed(jobs)]
    failed = await ask(service, "task-list", group.user_secret, states=["failed"])
    assert [job["jobid"] for job in failed["jobs"]] == [str(jobs[1]), str(jobs[0])]
    assert "bucket" not in str(failed)
    own = await ask(service, "task-list", group.admin_secret)
    assert [job["jobid"] for job in own["jobs"]] == [str(admins)]


async def test_an_admin_cancels_all_jobs_of_a_revoked_user(
    service: httpx.AsyncClient, group: GroupOfTest, pool: Pool
) -> None:
    """A revoked user's jobs could only be cancelled one by one (hostile review, low)."""
    await make_node(pool, group)
    left = await make_jobs(pool, group, 3)
    [admins] = await make_jobs(pool, group, 1)
    await give_to_admin(pool, admins)
    [foreign] = await make_jobs(pool, await make_group(pool, "physicists"), 1)
    await call(service, "group-revoke-user", adminsecret=group.admin_secret, name="ada")
    wanted = {"user": "ada", "states": ["received", "submitted", "running"]}
    for expected in (3, 0):
        done = await ask(service, "bulk/task-cancel", group.admin_secret, userfilter=wanted)
        assert done == {"cancelled": expected, "stopping": 0}
    states = [(await state_of(pool, job_id))[0] for job_id in (*left, admins, foreign)]
    assert states == ["cancelled"] * 3 + ["received"] * 2
    noted = await pool.fetch("SELECT subject FROM audit WHERE action = 'job-cancelled'")
    assert {row["subject"] for row in noted} == {str(job_id) for job_id in left}


async def test_only_an_admin_cancels_by_name(
    service: httpx.AsyncClient, group: GroupOfTest
) -> None:
    wanted = {"userfilter": {"user": "ada", "states": ["received"]}}
    for secret, more, status, why in (
        (group.user_secret, {}, 403, "needs the API secret of an admin"),
        (group.admin_secret, {"filter": {"states": ["received"]}}, 422, "userfilter"),
        (group.admin_secret, {"userfilter": {"states": ["received"]}}, 422, "user"),
        (group.admin_secret, {"userfilter": wanted["userfilter"] | {"user": "eve"}}, 404, "never"),
    ):
        body = wanted | {"secret": secret} | more
        answer = await service.post("/v22_1/bulk/task-cancel", json=body)
        assert answer.status_code == status
        assert why in answer.json()["detail"]
