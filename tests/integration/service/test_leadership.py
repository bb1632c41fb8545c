"""Exactly one dispatcher is active, whatever happens to its connection."""

from __future__ import annotations

import asyncio

import pytest
from dispatch_world import dispatching
from service_world import GroupOfTest, make_jobs, state_of, stay_heard

from leruli_queue.access.authenticate import Node
from leruli_queue.dispatch import dispatcher, leadership
from leruli_queue.dispatch.dispatcher import dispatch_for_ever
from leruli_queue.dispatch.leadership import LeadershipLostError, lead
from leruli_queue.nomad.gateway import NomadGateway
from leruli_queue.settings import Settings
from leruli_queue.store.pool import Pool, open_pool


async def test_only_one_dispatcher_leads_and_another_takes_over(
    settings: Settings, pool: Pool
) -> None:
    entered: asyncio.Queue[int] = asyncio.Queue()

    async def candidate(number: int) -> None:
        async with lead(settings) as leadership:
            entered.put_nowait(number)
            await leadership.watch()

    tasks = [asyncio.create_task(candidate(number)) for number in (0, 1)]
    leader = await asyncio.wait_for(entered.get(), 5)
    await asyncio.sleep(1.5)
    assert entered.empty()
    await pool.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted"
    )
    assert await asyncio.wait_for(entered.get(), 5) == 1 - leader
    with pytest.raises(LeadershipLostError):
        await tasks[leader]
    tasks[1 - leader].cancel()


async def test_the_lock_of_a_frozen_leader_is_taken_over(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leadership, "_IDLE_S", 2)

    async def second() -> bool:
        async with lead(settings):
            return True

    async with lead(settings):  # and asks for nothing, as if it were frozen
        assert await asyncio.wait_for(second(), 10)


async def test_a_dispatcher_that_is_ended_as_it_loses_its_connection_ends(
    settings: Settings, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TERM at the very moment of the loss. The duties are FAKES, to hit that moment."""
    began = asyncio.Event()

    async def lose_when_cancelled() -> None:
        if began.is_set():
            await asyncio.sleep(60)
        began.set()
        try:
            await asyncio.sleep(60)
        finally:
            raise LeadershipLostError("gone")

    async def be_active(*_: object) -> None:
        async with asyncio.TaskGroup() as duties:
            duties.create_task(lose_when_cancelled())

    async def use_nomad(*_: object) -> None:
        pass

    monkeypatch.setattr(dispatcher, "wait_until_usable", use_nomad)
    monkeypatch.setattr(dispatcher, "_be_active", be_active)
    work = asyncio.create_task(dispatch_for_ever(settings, pool))
    await began.wait()
    await asyncio.wait_for(dispatcher.cancel_until_done(work), 10)
    assert work.cancelled()


async def test_a_duty_that_fails_as_it_is_ended_ends() -> None:
    """Cancelled once, as a TaskGroup does when the leadership is lost."""
    began = asyncio.Event()

    async def fail_when_cancelled() -> None:
        began.set()
        try:
            await asyncio.sleep(60)
        finally:
            raise OSError("the connection broke")

    async def duty() -> None:
        async with asyncio.TaskGroup() as parts:
            parts.create_task(fail_when_cancelled())

    work = asyncio.create_task(dispatcher._run_with_retries(duty, "default"))
    await began.wait()
    work.cancel()
    await asyncio.wait({work}, timeout=10)
    has_ended = work.done()
    await dispatcher.cancel_until_done(work)
    assert has_ended


async def test_a_dispatcher_that_lost_its_lock_can_claim_nothing(
    nomad_settings: Settings, pool: Pool, gateway: NomadGateway, group: GroupOfTest, node: Node
) -> None:
    [job_id] = await make_jobs(pool, group, 1)
    async with dispatching(nomad_settings, pool, gateway) as active:
        await pool.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
        )
        with pytest.raises(LeadershipLostError):
            await active.feeder.feed_once()
    assert (await state_of(pool, job_id))[0] == "received"


async def test_the_whole_dispatcher_survives_the_loss_of_its_database_connections(
    nomad_settings: Settings, pool: Pool, gateway: NomadGateway, group: GroupOfTest, node: Node
) -> None:
    await stay_heard(pool)
    work = asyncio.create_task(dispatch_for_ever(nomad_settings, pool))
    # The connection of this test is not ended.
    async with open_pool(nomad_settings) as ours:
        try:
            for _ in range(2):
                [job_id] = await make_jobs(ours, group, 1)
                for _ in range(200):
                    await asyncio.sleep(0.1)
                    assert not work.done()
                    if (await state_of(ours, job_id))[0] == "submitted":
                        break
                else:
                    pytest.fail("nothing is dispatched any more")
                await ours.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
        finally:
            await dispatcher.cancel_until_done(work)
