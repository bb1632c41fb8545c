from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import httpx
import pytest
from service_world import (
    GroupOfTest,
    claim_jobs,
    make_group,
    make_jobs,
    make_node,
    state_of,
    until_blocked,
)

from leruli_queue.groups.compute_secret import rotate_compute_secret
from leruli_queue.jobs.attempts import AttemptId, start_attempt
from leruli_queue.store.locks import DISPATCHER_LOCK
from leruli_queue.store.pool import Pool


async def ask(service: httpx.AsyncClient, call: str, secret: str, job_id: object) -> httpx.Response:
    return await service.post(f"/v22_1/{call}", json={"secret": secret, "jobid": str(job_id)})


async def claim(pool: Pool, group: GroupOfTest) -> None:
    await claim_jobs(pool, group, 100)


@pytest.mark.parametrize("call", ["task-status", "task-cancel"])
async def test_unknown_and_foreign_jobs_get_the_same_answer(
    service: httpx.AsyncClient, group: GroupOfTest, pool: Pool, call: str
) -> None:
    other = await make_group(pool, "physicists")
    [foreign] = await make_jobs(pool, other, 1)
    answers = [
        await ask(service, call, group.user_secret, job_id)
        for job_id in (foreign, uuid4(), "nonsense", "")
    ]
    assert {answer.status_code for answer in answers} == {404}
    assert len({answer.text for answer in answers}) == 1
    assert await state_of(pool, foreign) == ("received", None)


async def test_an_admin_may_see_and_cancel_another_users_job(
    service: httpx.AsyncClient, group: GroupOfTest, pool: Pool
) -> None:
    [job_id] = await make_jobs(pool, group, 1)
    assert (await ask(service, "task-status", group.admin_secret, job_id)).status_code == 200
    await pool.execute("UPDATE jobs SET user_id = (SELECT id FROM users WHERE role = 'admin')")
    assert (await ask(service, "task-status", group.user_secret, job_id)).status_code == 404
    assert (await ask(service, "task-cancel", group.user_secret, job_id)).status_code == 404
    assert (await ask(service, "task-cancel", group.admin_secret, job_id)).json() == {
        "status": "cancelled",
        "reason": "cancelled before it ran",
    }


@pytest.mark.parametrize("claimed", [False, True])
async def test_a_job_without_a_start_grant_is_cancelled_at_once(
    service: httpx.AsyncClient, group: GroupOfTest, pool: Pool, claimed: bool
) -> None:
    node = await make_node(pool, group)
    [job_id] = await make_jobs(pool, group, 1)
    if claimed:
        await claim(pool, group)
    answer = await ask(service, "task-cancel", group.user_secret, job_id)
    assert answer.json() == {"status": "cancelled", "reason": "cancelled before it ran"}
    again = await ask(service, "task-cancel", group.user_secret, job_id)
    assert again.json() == answer.json()
    with pytest.raises(Exception, match=r"cancelled|not the job's current"):
        await start_attempt(pool, node, AttemptId(job_id, 1), "key-1234")
    to_stop = await pool.fetchval(
        "SELECT count(*) FROM attempts WHERE stop_requested_at IS NOT NULL"
    )
    assert to_stop == int(claimed)


@pytest.mark.parametrize(
    ("call", "asks"),
    [
        ("task-cancel", lambda job_id: {"jobid": str(job_id)}),
        ("bulk/task-cancel", lambda job_id: {"jobids": [str(job_id)]}),
        ("bulk/task-cancel", lambda _: {"filter": {"states": ["received", "submitted"]}}),
    ],
)
async def test_a_job_that_is_being_claimed_is_cancelled_with_its_attempt(
    service: httpx.AsyncClient, group: GroupOfTest, pool: Pool, call: str, asks: Any
) -> None:
    """The cancellation begins to wait for the claim before the attempt exists."""
    await make_node(pool, group)
    [job_id] = await make_jobs(pool, group, 1)
    body = {"secret": group.user_secret} | asks(job_id)
    async with pool.acquire() as claiming:
        async with claiming.transaction():
            assert len(await claim_jobs(claiming, group, 1)) == 1
            cancelling = asyncio.create_task(service.post(f"/v22_1/{call}", json=body))
            await until_blocked(pool, 1)
        assert (await cancelling).status_code == 200
    assert (await state_of(pool, job_id))[0] == "cancelled"
    assert await pool.fetchval("SELECT stop_requested_at IS NOT NULL FROM attempts")


async def test_a_job_that_may_run_keeps_its_state_until_its_receipt(
    service: httpx.AsyncClient, group: GroupOfTest, pool: Pool
) -> None:
    node = await make_node(pool, group)
    [job_id] = await make_jobs(pool, group, 1)
    await claim(pool, group)
    await start_attempt(pool, node, AttemptId(job_id, 1), "key-1234")
    answer = await ask(service, "task-cancel", group.user_secret, job_id)
    assert answer.json() == {
        "status": "submitted",
        "reason": "cancellation was requested; it is being stopped",
    }
    assert (await state_of(pool, job_id))[0] == "submitted"
    status = await ask(service, "task-status", group.user_secret, job_id)
    assert status.json() == answer.json()


@pytest.mark.parametrize("state", ["completed", "failed"])
async def test_a_final_job_keeps_its_state(
    service: httpx.AsyncClient, group: GroupOfTest, pool: Pool, state: str
) -> None:
    [job_id] = await make_jobs(pool, group, 1)
    await pool.execute("UPDATE jobs SET state = $1::text::job_state, attempt = 1", state)
    answer = await ask(service, "task-cancel", group.user_secret, job_id)
    assert answer.json() == {"status": state, "reason": f"the job has {state} already"}


async def test_every_answer_of_cancel_has_status_and_reason(
    service: httpx.AsyncClient, group: GroupOfTest
) -> None:
    for body in ({}, {"secret": "x", "jobid": "y"}, {"secret": group.user_secret, "jobid": "y"}):
        answer = await service.post("/v22_1/task-cancel", json=body)
        assert answer.status_code in (403, 404, 422)
        assert answer.json().keys() == {"detail", "status", "reason"}


async def test_why_a_job_is_queued(
    service: httpx.AsyncClient, group: GroupOfTest, pool: Pool
) -> None:
    [job_id] = await make_jobs(pool, group, 1, cores=64)

    async def reason() -> str | None:
        return (await ask(service, "task-status", group.user_secret, job_id)).json()["reason"]

    assert await reason() == "waiting for a node: no machine of the group is connected"
    await make_node(pool, group, cores=16, memory_mb=64000)
    assert await reason() == (
        "waiting for a node with 64 cores and 4000 MB; the largest has 16 cores and 64000 MB"
    )
    await make_node(pool, group, cores=64, memory_mb=64000)
    assert (await reason() or "").startswith("waiting for its turn")


async def test_a_queued_job_says_how_many_of_its_user_go_first(
    service: httpx.AsyncClient, group: GroupOfTest, pool: Pool
) -> None:
    await make_node(pool, group)
    [running] = await make_jobs(pool, group, 1)
    await claim(pool, group)
    other = await make_group(pool, "physicists")
    await make_jobs(pool, other, 3)
    jobs = await make_jobs(pool, group, 3)
    [urgent] = await make_jobs(pool, group, 1, priority=1)

    async def reason(job_id: object) -> str:
        answer = await ask(service, "task-status", group.user_secret, job_id)
        return str(answer.json()["reason"])

    assert await reason(jobs[0]) == "waiting for its turn: it is the next job of its user"
    assert await reason(jobs[1]) == "waiting for its turn: 1 job of the same user goes first"
    assert await reason(jobs[2]) == "waiting for its turn: 2 jobs of the same user go first"
    assert await reason(urgent) == "waiting for its turn: it is the next job of its user"
    # Jobs with other resources count too.
    [wide] = await make_jobs(pool, group, 1, cores=2)
    assert await reason(wide) == "waiting for its turn: 4 jobs of the same user go first"
    [second] = await make_jobs(pool, group, 1, priority=1)
    assert await reason(second) == "waiting for its turn: 1 job of the same user goes first"
    await pool.execute("UPDATE jobs SET state = 'received' WHERE id = $1", running)
    await make_jobs(pool, group, 1000)
    [last] = await make_jobs(pool, group, 1)
    assert await reason(last) == (
        "waiting for its turn: more than 1,000 jobs of the same user go first"
    )


async def test_why_no_machine_takes_a_job(
    service: httpx.AsyncClient, group: GroupOfTest, pool: Pool
) -> None:
    """D15: the reason was "no machine of the group is connected" for every cause."""
    [job_id] = await make_jobs(pool, group, 1)

    async def reason() -> str:
        answer = await ask(service, "task-status", group.user_secret, job_id)
        listed = await service.post("/v22_1/task-list", json={"secret": group.user_secret})
        [job] = listed.json()["jobs"]
        sentence = str(answer.json()["reason"])
        assert job["reason"] == sentence or job["reason"] is None
        return sentence

    node = await make_node(pool, group)
    body = {"adminsecret": group.admin_secret, "node": str(node.id)}
    drained = await service.post("/v22_1/group-node-drain", json=body)
    assert drained.status_code in (200, 503), drained.text  # no Nomad in this test
    assert await reason() == (
        "waiting for a node: the only machine of the group was taken out of service by an admin"
    )
    second = await make_node(pool, group, cores=8)
    for trouble, well in (
        (
            "UPDATE nodes SET alive = false WHERE id = $1",
            "UPDATE nodes SET alive = true WHERE id = $1",
        ),
        (
            "UPDATE nodes SET agent_trouble = 'its disk is full' WHERE id = $1",
            "UPDATE nodes SET agent_trouble = NULL WHERE id = $1",
        ),
        (
            "UPDATE nodes SET held_at = now() WHERE id = $1",
            "UPDATE nodes SET held_at = NULL WHERE id = $1",
        ),
    ):
        await pool.execute(trouble, second.id)
        assert await reason() == (
            "waiting for a node: of 2 machines of the group 1 was taken out of service by an admin "
            "and 1 is troubled (leruli group nodes says why)"
        )
        await pool.execute(well, second.id)
    assert await reason() == "waiting for its turn: it is the next job of its user"
    await pool.execute("UPDATE nodes SET left_at = now() WHERE id = $1", second.id)
    async with pool.acquire() as connection:
        await rotate_compute_secret(connection, group.id)
    assert await reason() == (
        "waiting for a node: the only machine of the group needs the new compute secret"
    )
    await pool.execute("UPDATE nodes SET left_at = NULL")
    assert await reason() == (
        "waiting for a node: all 2 machines of the group need the new compute secret"
    )
    await pool.execute("UPDATE nodes SET left_at = now()")
    assert await reason() == "waiting for a node: no machine of the group is connected"


async def test_why_no_large_enough_machine_takes_a_job(
    service: httpx.AsyncClient, group: GroupOfTest, pool: Pool
) -> None:
    """D15: the reason was "the largest has 4 cores" while a larger node was drained."""
    await make_node(pool, group)
    large = await make_node(pool, group, cores=64, memory_mb=64000)
    [job_id] = await make_jobs(pool, group, 1, cores=32)
    await pool.execute("UPDATE nodes SET drained_at = now() WHERE id = $1", large.id)
    answer = await ask(service, "task-status", group.user_secret, job_id)
    assert answer.json()["reason"] == (
        "waiting for a node with 32 cores and 4000 MB: the only machine that large was taken out "
        "of service by an admin"
    )


@pytest.mark.parametrize("claimed", [False, True])
async def test_a_job_says_that_no_dispatcher_runs(
    service: httpx.AsyncClient, group: GroupOfTest, pool: Pool, claimed: bool
) -> None:
    """D3: without a working dispatcher the reason was still to wait for its turn."""
    await make_node(pool, group)
    [job_id] = await make_jobs(pool, group, 1)
    if claimed:
        await claim(pool, group)

    async def reason() -> str:
        answer = await ask(service, "task-status", group.user_secret, job_id)
        return str(answer.json()["reason"])

    working = await reason()
    await pool.execute("UPDATE dispatchers SET seen_at = '2026-11-30T08:15Z'")
    gone = "not dispatched: the service's dispatcher has not run"
    assert (await reason()).startswith(f"{gone} since 2026-11-30 08:15 UTC; ")
    await pool.execute("DELETE FROM dispatchers")
    assert (await reason()).startswith(f"{gone}; ")
    # A dispatcher of an earlier release holds the single lock and writes no heartbeat.
    earlier = await pool.acquire()
    await earlier.execute("SELECT pg_advisory_lock($1)", DISPATCHER_LOCK)
    assert await reason() == working
    await earlier.execute("SELECT pg_advisory_unlock($1)", DISPATCHER_LOCK)
    await pool.release(earlier)
    await pool.execute("INSERT INTO dispatchers VALUES ('default', now(), '2026-11-30T08:15Z')")
    assert (await reason()).startswith(
        "not dispatched: the service has not been able to use its cluster manager (Nomad) since "
        "2026-11-30 08:15 UTC; "
    )
    await pool.execute("UPDATE dispatchers SET nomad_away_since = NULL")
    assert await reason() == working
