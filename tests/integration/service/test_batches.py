"""Batches: jobs submitted together, their counts, batch-list, batch-status and batch-cancel."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from asyncpg.connection import LoggedQuery
from dispatch_world import Dispatching
from service_world import GroupOfTest, call, claim_jobs, holding, make_jobs, make_node, make_user

from leruli_queue.access.audit import Action
from leruli_queue.groups.users import create_user
from leruli_queue.jobs.batches import fold_batch_changes
from leruli_queue.jobs.intake import NewBatch, NewJob, submit_jobs
from leruli_queue.jobs.states import JobState
from leruli_queue.settings import Settings
from leruli_queue.store.locks import BATCH_LOCK
from leruli_queue.store.pool import Pool

NONE = dict.fromkeys([state.value for state in JobState], 0)


def body(group: GroupOfTest, batch: UUID | None, called: str = "", **more: Any) -> dict[str, Any]:
    """The body of a submission; without a batch as the published client sends it."""
    job = {"secret": group.user_secret, "bucketid": str(uuid4()), "codeversion": "psi4:1.5"}
    return job | more | ({"batchid": str(batch), "batchname": called} if batch else {})


async def submit(service: httpx.AsyncClient, bodies: list[dict[str, Any]]) -> list[UUID]:
    answer = await service.post("/v22_1/bulk/task-submit", json=bodies)
    assert {entry["status"] for entry in answer.json()} == {200}, answer.text
    return [UUID(entry["data"]) for entry in answer.json()]


async def status(service: httpx.AsyncClient, group: GroupOfTest, batch: UUID) -> Any:
    return await call(service, "batch-status", secret=group.user_secret, batchid=str(batch))


async def change(pool: Pool, job_ids: list[UUID], state: str, **columns: Any) -> None:
    """Change jobs as a statement of the service would; ``ended_at`` as final states have it."""
    await pool.execute(
        "UPDATE jobs SET state = $2::text::job_state, reason = $3, exit_code = $4, ended_at = $5"
        " WHERE id = ANY($1::uuid[])",
        job_ids,
        state,
        columns.get("reason"),
        columns.get("exit_code"),
        columns.get("ended_at"),
    )


@pytest.mark.parametrize("folds", [False, True])
async def test_a_batch_counts_its_jobs_through_all_states(
    service: httpx.AsyncClient, pool: Pool, group: GroupOfTest, folds: bool
) -> None:
    async def counts() -> dict[str, int]:
        if folds:
            await fold_batch_changes(pool)
        answer = await status(service, group, batch)
        assert answer["jobs"] == sum(answer["counts"].values())
        return {state: count for state, count in answer["counts"].items() if count}

    batch = uuid4()
    jobs = await submit(service, [body(group, batch, "scan") for _ in range(5)])
    await call(service, "task-submit", **body(group, batch))
    # Neither is in the batch.
    await submit(service, [body(group, None), body(group, uuid4())])
    assert await counts() == {"received": 6}
    await make_node(pool, group)
    await claim_jobs(pool, group, 100)
    assert await counts() == {"submitted": 6}
    await change(pool, jobs[:3], "running")
    assert await counts() == {"submitted": 3, "running": 3}
    ended = datetime.now(UTC)
    await change(pool, jobs[:1], "completed", ended_at=ended)
    await change(pool, jobs[1:2], "failed", ended_at=ended, reason="why", exit_code=3)
    await change(pool, jobs[2:3], "received")
    await change(pool, jobs[3:4], "cancelled", ended_at=ended)
    # Changes no state.
    await pool.execute("UPDATE jobs SET reason = 'why'")
    assert await counts() == {
        "received": 1,
        "submitted": 2,
        "completed": 1,
        "failed": 1,
        "cancelled": 1,
    }
    left = await pool.fetchval("SELECT count(*) FROM batch_changes")
    assert (left == 0) == folds


async def test_a_repeated_submission_adds_nothing(
    service: httpx.AsyncClient, group: GroupOfTest
) -> None:
    batch = uuid4()
    bodies = [body(group, batch, "scan") for _ in range(3)]
    first = await submit(service, bodies)
    assert await submit(service, bodies) == first
    [more] = await submit(service, [body(group, batch, "another name")])
    answer = await status(service, group, batch)
    assert answer["counts"] == NONE | {"received": 4}
    assert answer["name"] == "scan"
    # Submitted again without the batch, a job stays in it.
    assert await submit(service, [body(group, None, bucketid=bodies[0]["bucketid"])]) == first[:1]
    assert more not in first


async def test_jobs_without_a_batch_take_the_statement_that_they_took(
    pool: Pool, group: GroupOfTest
) -> None:
    user = await make_user(pool, group)
    plain = NewJob("a" * 8, "water", "psi4", "1.5", 1, 4000, 60)
    logged: list[str] = []

    def note(record: LoggedQuery) -> None:
        if "take_in" in record.query:
            logged.append(record.query)

    async with pool.acquire() as connection:
        connection.add_query_logger(note)
        await submit_jobs(connection, [(user, plain)])
        joins = NewJob("b" * 8, "water", "psi4", "1.5", 1, 4000, 60, batch=NewBatch(uuid4(), ""))
        await submit_jobs(connection, [(user, joins)])
        connection.remove_query_logger(note)
    first, second = logged
    assert "take_in(" in first
    assert "take_in_batches(" in second
    assert await pool.fetchval("SELECT count(*) FROM batch_changes") == 1


async def test_a_job_of_a_batch_has_all_that_it_asks_for(
    service: httpx.AsyncClient, pool: Pool, group: GroupOfTest
) -> None:
    batch = uuid4()
    [job] = await submit(
        service,
        [body(group, batch, diskmb=100, shmmb=200, sharecontainer=True, priority=3, name="water")],
    )
    row = await pool.fetchrow("SELECT * FROM jobs WHERE id = $1", job)
    assert (row["disk_mb"], row["shm_mb"], row["share_container"]) == (100, 200, True)
    assert (row["priority"], row["name"], row["version"]) == (3, "water", "1.5")


async def test_another_users_batch_is_unknown_even_with_the_same_id(
    service: httpx.AsyncClient, pool: Pool, group: GroupOfTest
) -> None:
    async with pool.acquire() as connection:
        bob = await create_user(connection, group.id, group.token, name="bob", is_admin=False)
    batch = uuid4()
    await submit(service, [body(group, batch, "scan")])
    for secret in (bob, group.admin_secret):
        answers = [
            await service.post(f"/v22_1/{path}", json={"secret": secret, "batchid": str(asked)})
            for path in ("batch-status", "batch-cancel")
            for asked in (batch, uuid4())
        ]
        assert {(answer.status_code, answer.text) for answer in answers} == {(404, answers[0].text)}
        assert (await call(service, "batch-list", secret=secret))["batches"] == []
    # Who knows the id makes a batch of their own with it, and learns nothing.
    await submit(service, [body(group, batch, "bob's", secret=bob)])
    theirs = await call(service, "batch-status", secret=bob, batchid=str(batch))
    assert (theirs["name"], theirs["jobs"]) == ("bob's", 1)
    await call(service, "batch-cancel", secret=bob, batchid=str(batch))
    assert (await status(service, group, batch))["counts"] == NONE | {"received": 1}


async def test_a_revoked_users_submission_makes_no_batch(pool: Pool, group: GroupOfTest) -> None:
    user = await make_user(pool, group)
    await pool.execute("UPDATE users SET revoked_at = now() WHERE id = $1", user.id)
    job = NewJob("b" * 8, "water", "psi4", "1.5", 1, 4000, 60, batch=NewBatch(uuid4(), ""))
    assert await submit_jobs(pool, [(user, job)]) == [None]
    assert await pool.fetchval("SELECT count(*) FROM batches") == 0


async def test_counts_are_right_at_any_time_while_many_change_them(
    service: httpx.AsyncClient, pool: Pool, group: GroupOfTest
) -> None:
    """Writers change jobs, two dispatchers fold, and a reader always sees every job once."""
    batches = [uuid4() for _ in range(3)]
    jobs = await submit(service, [body(group, batches[n % 3]) for n in range(90)])
    is_over = asyncio.Event()
    chance = random.Random(1)  # noqa: S311

    async def write(own: list[UUID]) -> None:
        for _ in range(40):
            state = chance.choice(["received", "submitted", "running"])
            await change(pool, chance.sample(own, 7), state)

    async def fold() -> None:
        while not is_over.is_set():
            await fold_batch_changes(pool)

    async def read() -> int:
        times = 0
        while not is_over.is_set():
            for batch in batches:
                answer = await status(service, group, batch)
                assert answer["jobs"] == 30
                assert min(answer["counts"].values()) >= 0
            times += 1
        return times

    async with asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(read())
        for _ in range(2):
            tasks.create_task(fold())
        async with asyncio.TaskGroup() as writers:
            for first in range(3):
                writers.create_task(write(jobs[first * 30 : first * 30 + 30]))
        is_over.set()
    assert reading.result() > 3
    for batch in batches:
        found = await pool.fetch(
            "SELECT state, count(*) FROM jobs j JOIN batches b ON b.number = j.batch"
            " WHERE b.id = $1 GROUP BY state",
            batch,
        )
        assert (await status(service, group, batch))["counts"] == NONE | dict(found)


async def test_the_dispatcher_folds_and_waits_for_nobody(
    settings: Settings, pool: Pool, group: GroupOfTest, dispatcher: Dispatching
) -> None:
    await make_jobs(pool, group, 3, batch=NewBatch(uuid4(), "scan"))
    async with holding(settings, f"SELECT pg_advisory_xact_lock({BATCH_LOCK})"):
        await dispatcher.maintenance.fold_batch_changes()
        assert await pool.fetchval("SELECT received FROM batches") == 0
    await dispatcher.maintenance.run_once()
    assert await pool.fetchval("SELECT received FROM batches") == 3
    assert await pool.fetchval("SELECT count(*) FROM batch_changes") == 0


@pytest.mark.parametrize("folds", [False, True])
async def test_times_rate_and_failures(
    service: httpx.AsyncClient, pool: Pool, group: GroupOfTest, folds: bool
) -> None:
    batch = uuid4()
    jobs = await submit(service, [body(group, batch, name=f"job-{n}") for n in range(10)])
    answer = await status(service, group, batch)
    nothing = ("firstrunningat", "lastendedat", "rate", "expectedend")
    assert [answer[field] for field in nothing] == [None] * 4
    assert answer["failures"] == []
    assert answer["submittedat"] == answer["lastsubmittedat"]
    await change(pool, jobs, "running")
    now = datetime.now(UTC)
    await pool.execute("UPDATE batch_changes SET at = now() - interval '100 s' WHERE running > 0")
    for number in range(6):
        ended = now - timedelta(seconds=50 - number)
        await change(
            *(pool, [jobs[number]], "failed"),
            reason=f"why {number}",
            exit_code=number,
            ended_at=ended,
        )
    if folds:
        await fold_batch_changes(pool)
    answer = await status(service, group, batch)
    # Six in 100 s.
    assert answer["rate"] == pytest.approx(0.06, rel=0.1)
    left = datetime.fromisoformat(answer["expectedend"]) - now
    assert left.total_seconds() == pytest.approx(4 / 0.06, rel=0.1)
    assert [failed["reason"] for failed in answer["failures"]] == [
        f"why {number}" for number in (5, 4, 3, 2, 1)
    ]
    first = answer["failures"][0]
    assert (first["jobid"], first["name"], first["exitcode"]) == (str(jobs[5]), "job-5", 5)
    assert datetime.fromisoformat(answer["lastendedat"]) == ended
    # Of a batch that is over the rate is that of its whole time.
    await change(pool, jobs[6:9], "completed", ended_at=now)
    await change(pool, jobs[9:], "cancelled", ended_at=now)
    answer = await status(service, group, batch)
    assert answer["rate"] == pytest.approx(0.09, rel=0.1)
    assert answer["expectedend"] is None


async def test_the_rate_is_that_of_the_last_ends(
    service: httpx.AsyncClient, pool: Pool, group: GroupOfTest
) -> None:
    batch = uuid4()
    jobs = await submit(service, [body(group, batch) for _ in range(401)])
    await change(pool, jobs, "running")
    await pool.execute("UPDATE batch_changes SET at = now() - interval '1 day' WHERE running > 0")
    now = datetime.now(UTC)
    await change(pool, jobs[:200], "completed", ended_at=now - timedelta(hours=20))
    for first, seconds in ((200, 100), (201, 0)):
        ended = now - timedelta(seconds=seconds)
        await change(pool, jobs[first : 201 if seconds else 400], "completed", ended_at=ended)
    assert (await status(service, group, batch))["rate"] == pytest.approx(2.0, rel=0.1)


async def test_lists_go_page_by_page_and_find_by_name_and_by_id(
    service: httpx.AsyncClient, group: GroupOfTest
) -> None:
    async def listed(**more: Any) -> tuple[list[str], Any]:
        answer = await call(service, "batch-list", secret=group.user_secret, **more)
        return [one["batchid"] for one in answer["batches"]], answer["next"]

    ids = [str(uuid4()) for _ in range(5)]
    for number, batch in enumerate(ids):
        await submit(service, [body(group, UUID(batch), f"scan {number % 2}")] * (number + 1))
    page, after = await listed(limit=3)
    assert page == ids[:1:-1]
    assert await listed(limit=3, after=after) == (ids[1::-1], None)
    assert await listed(reference="scan 1") == ([ids[3], ids[1]], None)
    assert await listed(reference=ids[2][:9]) == ([ids[2]], None)
    assert await listed(reference=ids[2].replace("-", "").upper()) == ([ids[2]], None)
    for nothing in ("scan", "%", ids[0][:3], "____"):
        assert await listed(reference=nothing) == ([], None)


async def test_a_cancelled_batch_ends_and_nothing_else_does(
    service: httpx.AsyncClient, pool: Pool, group: GroupOfTest
) -> None:
    batch = uuid4()
    jobs = await submit(service, [body(group, batch) for _ in range(4)])
    others = await submit(service, [body(group, None), body(group, uuid4())])
    await change(pool, jobs[:1], "completed", ended_at=datetime.now(UTC))
    await pool.execute(
        "UPDATE jobs SET state = 'running', started_at = now() WHERE id = $1", jobs[1]
    )
    asked = {"secret": group.user_secret, "batchid": str(batch)}
    assert await call(service, "batch-cancel", **asked) == {"cancelled": 2, "stopping": 1}
    assert await call(service, "batch-cancel", **asked) == {"cancelled": 0, "stopping": 0}
    assert (await status(service, group, batch))["counts"] == NONE | {
        "completed": 1,
        "running": 1,
        "cancelled": 2,
    }
    assert {
        row["state"]
        for row in await pool.fetch("SELECT state FROM jobs WHERE id = ANY($1)", others)
    } == {"received"}
    # One's own jobs are not in the audit.
    noted = await pool.fetchval(
        "SELECT count(*) FROM audit WHERE action = $1", Action.JOB_CANCELLED
    )
    assert noted == 0
