"""task-events and group-events: what changed after a cursor, and waiting for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
from service_world import (
    GroupOfTest,
    call,
    claim_jobs,
    make_group,
    make_jobs,
    make_node,
    running_service,
)

from leruli_queue.api import event_watch, waiting
from leruli_queue.groups.users import create_user
from leruli_queue.jobs import events
from leruli_queue.settings import Settings
from leruli_queue.store.pool import Pool


async def change(
    pool: Pool,
    job_ids: list[UUID],
    state: str,
    exit_code: int | None = None,
    reason: str | None = None,
) -> None:
    """Change the state of jobs, as a statement of the service would."""
    await pool.execute(
        "UPDATE jobs SET state = $2::text::job_state, exit_code = $3, reason = $4"
        " WHERE id = ANY($1::uuid[])",
        job_ids,
        state,
        exit_code,
        reason,
    )


async def ask(service: httpx.AsyncClient, group: GroupOfTest, **more: Any) -> Any:
    return await call(service, "task-events", secret=group.user_secret, **more)


async def start(service: httpx.AsyncClient, group: GroupOfTest) -> str:
    answer = await ask(service, group)
    assert answer["events"] == []
    return str(answer["cursor"])


@asynccontextmanager
async def open_transaction(
    settings: Settings, *, commits: bool = False
) -> AsyncIterator[asyncpg.Connection[Any]]:
    """A transaction that has written something; it ends with the block."""
    connection = await asyncpg.connect(settings.database_url.get_secret_value())
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute("CREATE TEMPORARY TABLE something (number integer)")
    try:
        yield connection
    finally:
        await (transaction.commit() if commits else transaction.rollback())
        await connection.close()


async def test_events_tell_what_a_job_went_through(
    service: httpx.AsyncClient, pool: Pool, group: GroupOfTest
) -> None:
    await make_node(pool, group)
    [job_id] = await make_jobs(pool, group, 1, name="water")
    cursor = await start(service, group)
    assert len(await claim_jobs(pool, group, 1)) == 1
    await change(pool, [job_id], "failed", exit_code=3, reason="why")
    answer = await ask(service, group, cursor=cursor)
    bucket = await pool.fetchval("SELECT bucket FROM jobs")
    first, second = answer["events"]
    assert first["number"] < second["number"]
    for event in (first, second):
        assert event.pop("at").endswith("Z")
        event.pop("number")
    common = {
        "jobid": str(job_id),
        "user": "ada",
        "name": "water",
        "bucketid": bucket,
        "attempt": 1,
        "batchid": None,
        "batchname": None,
    }
    assert first == common | {"state": "submitted", "reason": None, "exitcode": None}
    assert second == common | {"state": "failed", "reason": "why", "exitcode": 3}
    assert not answer["more"]
    assert (await ask(service, group, cursor=answer["cursor"]))["events"] == []


async def test_a_change_of_something_else_is_no_event(
    service: httpx.AsyncClient, pool: Pool, group: GroupOfTest
) -> None:
    jobs = await make_jobs(pool, group, 2)
    cursor = await start(service, group)
    await pool.execute("UPDATE jobs SET reason = 'why', start_key = 'key'")
    await change(pool, jobs, "received")
    assert (await ask(service, group, cursor=cursor))["events"] == []


async def test_everybody_reads_own_events_only(
    service: httpx.AsyncClient, pool: Pool, group: GroupOfTest
) -> None:
    async with pool.acquire() as connection:
        bob = await create_user(connection, group.id, group.token, name="bob", is_admin=False)
    other = await make_group(pool, "physicists")
    cursor = await start(service, group)
    owned = {
        secret: await make_jobs(pool, owner, 1, secret=secret)
        for owner, secret in (
            (group, group.user_secret),
            (group, bob),
            (group, group.admin_secret),
            (other, other.user_secret),
        )
    }
    for jobs in owned.values():
        await change(pool, jobs, "submitted")
    every = [str(job_id) for jobs in owned.values() for job_id in jobs]
    for secret, [job_id] in owned.items():
        for more in ({}, {"jobids": every}):
            answer = await call(service, "task-events", secret=secret, cursor=cursor, **more)
            assert [event["jobid"] for event in answer["events"]] == [str(job_id)]
    answer = await call(service, "group-events", grouptoken=group.token, cursor=cursor)
    assert [event["jobid"] for event in answer["events"]] == every[:3]
    assert [event["user"] for event in answer["events"]] == ["ada", "bob", "admin"]
    assert all("bucketid" not in event for event in answer["events"])


async def test_jobs_and_states_can_be_chosen(
    service: httpx.AsyncClient, pool: Pool, group: GroupOfTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "_MOST_SCANNED", 10)
    jobs = await make_jobs(pool, group, 30)
    cursor = await start(service, group)
    await change(pool, jobs, "submitted")
    await change(pool, jobs, "completed")
    chosen = {"jobids": [str(jobs[-1]), str(uuid4()), "nonsense"], "states": ["completed"]}
    found = []
    answer = {"cursor": cursor, "more": True}
    while answer["more"]:
        answer = await ask(service, group, cursor=answer["cursor"], **chosen)
        found += answer["events"]
    assert [(event["jobid"], event["state"]) for event in found] == [(str(jobs[-1]), "completed")]
    # Without a pause for each part that has none of them.
    answer = await ask(service, group, cursor=cursor, wait=30, **chosen)
    assert len(answer["events"]) == 1
    assert (await ask(service, group, cursor=cursor, jobids=[]))["events"] == []


async def test_pages(service: httpx.AsyncClient, pool: Pool, group: GroupOfTest) -> None:
    jobs = await make_jobs(pool, group, 25)
    cursor = await start(service, group)
    await change(pool, jobs, "submitted")
    sizes, numbers, more = [], [], True
    while more:
        answer = await ask(service, group, cursor=cursor, limit=10)
        cursor, more = answer["cursor"], answer["more"]
        sizes.append(len(answer["events"]))
        numbers += [event["number"] for event in answer["events"]]
    assert sizes == [10, 10, 5]
    assert numbers == sorted(set(numbers))


async def test_a_waiting_call_is_answered_soon_after_the_event(
    service: httpx.AsyncClient, pool: Pool, group: GroupOfTest
) -> None:
    [job_id] = await make_jobs(pool, group, 1)
    for state in ("submitted", "running", "completed"):
        cursor = await start(service, group)
        waiting = asyncio.create_task(ask(service, group, cursor=cursor, wait=30))
        await asyncio.sleep(0.5)
        assert not waiting.done()
        await change(pool, [job_id], state)
        began = time.monotonic()
        answer = await waiting
        assert [event["state"] for event in answer["events"]] == [state]
        # Mostly 0.2 s; tests run side by side.
        assert time.monotonic() - began < 3


async def test_a_call_that_waited_in_vain_has_a_newer_cursor(
    service: httpx.AsyncClient, pool: Pool, group: GroupOfTest
) -> None:
    cursor = await start(service, group)
    [foreign] = await make_jobs(pool, await make_group(pool, "physicists"), 1)
    await change(pool, [foreign], "submitted")
    began = time.monotonic()
    answer = await ask(service, group, cursor=cursor, wait=1)
    assert time.monotonic() - began >= 1
    assert answer["events"] == []
    assert int(answer["cursor"].split("-")[0]) > int(cursor.split("-")[0])


@pytest.mark.parametrize("commits", [True, False])
async def test_events_wait_for_older_transactions(
    service: httpx.AsyncClient, settings: Settings, pool: Pool, group: GroupOfTest, commits: bool
) -> None:
    jobs = await make_jobs(pool, group, 2)
    cursor = await start(service, group)
    async with open_transaction(settings, commits=commits) as older:
        await older.execute("UPDATE jobs SET state = 'submitted' WHERE id = $1", jobs[0])
        await change(pool, [jobs[1]], "submitted")
        answer = await ask(service, group, cursor=cursor)
        assert answer["events"] == []
        begun_now = await start(service, group)
        waiting = asyncio.create_task(ask(service, group, cursor=answer["cursor"], wait=30))
        await asyncio.sleep(0.5)
        assert not waiting.done()
    expected = [str(job_id) for job_id in (jobs if commits else jobs[1:])]
    assert [event["jobid"] for event in (await waiting)["events"]] == expected
    # A reader who begins while the older one is open misses nothing of it.
    answer = await ask(service, group, cursor=begun_now)
    assert [event["jobid"] for event in answer["events"]] == expected


async def test_of_one_jobs_events_the_higher_number_is_later(
    service: httpx.AsyncClient, settings: Settings, pool: Pool, group: GroupOfTest
) -> None:
    """An older transaction may change a job after a younger one: cursors order transactions."""
    [job_id] = await make_jobs(pool, group, 1)
    cursor = await start(service, group)
    connection = await asyncpg.connect(settings.database_url.get_secret_value())
    async with connection.transaction():
        await connection.execute("CREATE TEMPORARY TABLE something (number integer)")
        await change(pool, [job_id], "submitted")
        await connection.execute("UPDATE jobs SET state = 'cancelled' WHERE id = $1", job_id)
    await connection.close()
    answer = await ask(service, group, cursor=cursor)
    assert [event["state"] for event in answer["events"]] == ["cancelled", "submitted"]
    latest = max(answer["events"], key=lambda event: int(event["number"]))
    assert latest["state"] == "cancelled"


async def test_waiting_calls_hold_no_connections_to_postgresql(
    settings: Settings, pool: Pool, group: GroupOfTest
) -> None:
    jobs = await make_jobs(pool, group, 1)
    few = settings.model_copy(update={"database_pool_size": 3})
    async with running_service(few) as service:
        cursor = await start(service, group)
        before = await _connections(pool)
        calls = [
            asyncio.create_task(ask(service, group, cursor=cursor, wait=40)) for _ in range(60)
        ]
        await asyncio.sleep(2)
        assert not any(one.done() for one in calls)
        assert await _connections(pool) - before <= 2
        # Others are answered meanwhile.
        await call(service, "task-status", secret=group.user_secret, jobid=str(jobs[0]))
        await change(pool, jobs, "submitted")
        answers = await asyncio.gather(*calls)
    assert all(len(answer["events"]) == 1 for answer in answers)


async def _connections(pool: Pool) -> int:
    return int(
        await pool.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        )
    )


async def test_too_many_waiting_calls_are_answered_at_once(
    settings: Settings, pool: Pool, group: GroupOfTest
) -> None:
    few = settings.model_copy(update={"max_connections": 10})
    async with running_service(few) as service:
        cursor = await start(service, group)
        calls = [asyncio.create_task(ask(service, group, cursor=cursor, wait=30)) for _ in range(5)]
        await asyncio.sleep(0.5)
        began = time.monotonic()
        assert (await ask(service, group, cursor=cursor, wait=30))["events"] == []
        assert time.monotonic() - began < 10
        waiting.answer_waiting_calls()  # as when the service ends
        for one in calls:
            assert (await one)["events"] == []
        assert time.monotonic() - began < 20


async def test_a_revoked_secret_ends_the_wait(
    service: httpx.AsyncClient,
    pool: Pool,
    group: GroupOfTest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(waiting, "_READ_AGAIN_S", 0.2)
    cursor = await start(service, group)
    body = {"secret": group.user_secret, "cursor": cursor, "wait": 30}
    asked = asyncio.create_task(service.post("/v22_1/task-events", json=body))
    await asyncio.sleep(0.5)
    revoke = {"adminsecret": group.admin_secret, "name": "ada"}
    await call(service, "group-revoke-user", **revoke)
    assert (await asked).status_code == 403


async def test_the_watch_goes_on_after_the_database_was_away(
    service: httpx.AsyncClient, pool: Pool, group: GroupOfTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_watch, "_AGAIN_S", 0.1)
    [job_id] = await make_jobs(pool, group, 1)
    cursor = await start(service, group)
    asked = asyncio.create_task(ask(service, group, cursor=cursor, wait=40))
    await asyncio.sleep(0.5)
    await pool.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    await asyncio.sleep(0.5)
    began = time.monotonic()
    await change(pool, [job_id], "submitted")
    assert len((await asked)["events"]) == 1
    assert time.monotonic() - began < 5


async def test_old_events_are_deleted_in_portions_and_old_cursors_refused(
    service: httpx.AsyncClient, pool: Pool, group: GroupOfTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "_PORTION", 4)
    jobs = await make_jobs(pool, group, 10)
    old = await start(service, group)
    await change(pool, jobs, "submitted")
    await pool.execute("UPDATE events SET at = now() - interval '2 hours'")
    later = await start(service, group)
    await change(pool, jobs[:3], "running")
    assert len((await ask(service, group, cursor=old, limit=5))["events"]) == 5
    await events.delete_old_events(pool, 3600)
    assert await pool.fetchval("SELECT count(*) FROM events") == 3
    assert len((await ask(service, group, cursor=later))["events"]) == 3
    for cursor in (old, "99999999999-0", "0-0"):
        for path, secret in (
            ("task-events", {"secret": group.user_secret}),
            ("group-events", {"grouptoken": group.token}),
        ):
            answer = await service.post(
                f"/v22_1/{path}", json=secret | {"cursor": cursor, "wait": 30}
            )
            assert answer.status_code == 410
            assert "ask for a new cursor" in answer.json()["detail"]


async def test_an_open_transaction_keeps_events_that_nobody_could_read(
    service: httpx.AsyncClient, settings: Settings, pool: Pool, group: GroupOfTest
) -> None:
    jobs = await make_jobs(pool, group, 1)
    async with open_transaction(settings):
        await change(pool, jobs, "submitted")
        await pool.execute("UPDATE events SET at = now() - interval '2 hours'")
        cursor = await start(service, group)
        await events.delete_old_events(pool, 3600)
        assert await pool.fetchval("SELECT count(*) FROM events") == 1
    assert len((await ask(service, group, cursor=cursor))["events"]) == 1


async def test_events_of_another_server_are_deleted(
    service: httpx.AsyncClient, pool: Pool, group: GroupOfTest
) -> None:
    """A dump of a server with higher transaction numbers was read into this one."""
    jobs = await make_jobs(pool, group, 1)
    await change(pool, jobs, "submitted")
    await pool.execute("UPDATE events SET xid = '99999999999'")
    await pool.execute("UPDATE events_deleted SET xid = '99999999998'")
    await events.delete_old_events(pool, 3600)
    assert await pool.fetchval("SELECT count(*) FROM events") == 0
    cursor = await start(service, group)
    await change(pool, jobs, "running")
    assert len((await ask(service, group, cursor=cursor))["events"]) == 1


@pytest.mark.parametrize(
    "wrong",
    [{"cursor": "x"}, {"cursor": "1-"}, {"cursor": f"{10**18}-1"}, {"wait": 61}, {"wait": "1"},
     {"limit": 0}, {"states": ["nonsense"]}],
)  # fmt: skip
async def test_wrong_bodies(
    service: httpx.AsyncClient, group: GroupOfTest, wrong: dict[str, object]
) -> None:
    body = {"secret": group.user_secret, **wrong}
    assert (await service.post("/v22_1/task-events", json=body)).status_code == 422


async def test_one_statement_for_many_jobs_does_not_read_all_for_each(
    pool: Pool, group: GroupOfTest
) -> None:
    """The trigger's plan is made for the first statement, which may change one job."""
    jobs = await make_jobs(pool, group, 1000)
    for _ in range(5):
        jobs += await make_jobs(pool, group, 1000)
    async with pool.acquire() as connection:
        for number in range(8):
            await connection.execute(
                "UPDATE jobs SET state = 'submitted' WHERE id = $1", jobs[number]
            )
        began = time.monotonic()
        await connection.execute("UPDATE jobs SET state = 'running'")
        assert time.monotonic() - began < 20
    assert await pool.fetchval("SELECT count(*) FROM events WHERE state = 'running'") == 6000
