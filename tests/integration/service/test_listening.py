"""Notifications of the real PostgreSQL, and waiters that hold no connection."""

from __future__ import annotations

import asyncio

from leruli_queue.settings import Settings
from leruli_queue.store.listening import Listener
from leruli_queue.store.pool import Pool

CHANNEL = "leruli_test"
_SOON_S = 5.0
# Long enough for a notification that must not come.
_QUIET_S = 0.3


async def notify(pool: Pool, payload: str) -> None:
    await pool.execute("SELECT pg_notify($1, $2)", CHANNEL, payload)


async def ends_listening(pool: Pool) -> int:
    """End the listener's connection, as a restart of PostgreSQL does."""
    ended = await pool.fetchval(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
        "WHERE datname = current_database() AND query LIKE 'LISTEN%'"
    )
    return int(ended)


async def test_a_notification_wakes_the_waiters_of_its_payload(
    settings: Settings, pool: Pool
) -> None:
    listener = Listener(settings, [CHANNEL])
    async with listener.running():
        with listener.waiting(CHANNEL, "a") as mine, listener.waiting(CHANNEL) as all_of_it:
            # Woken once when the connection listens.
            assert await mine.wait(_SOON_S)
            assert await all_of_it.wait(_SOON_S)
            await notify(pool, "b")
            assert await all_of_it.wait(_SOON_S)
            assert not await mine.wait(_QUIET_S)
            await notify(pool, "a")
            assert await mine.wait(_SOON_S)
            assert await all_of_it.wait(_SOON_S)


async def test_all_waiters_are_woken_after_the_connection_was_lost(
    settings: Settings, pool: Pool
) -> None:
    listener = Listener(settings, [CHANNEL])
    async with listener.running():
        with listener.waiting(CHANNEL, "a") as mine:
            assert await mine.wait(_SOON_S)
            assert await ends_listening(pool) == 1
            assert await mine.wait(_SOON_S)
            await notify(pool, "a")
            assert await mine.wait(_SOON_S)


async def test_a_waiter_that_leaves_is_forgotten(settings: Settings) -> None:
    listener = Listener(settings, [CHANNEL])
    with listener.waiting(CHANNEL, "a"):
        assert listener._waiters
    assert not listener._waiters


async def test_the_end_of_listening_wakes_everybody(settings: Settings) -> None:
    listener = Listener(settings, [CHANNEL])
    with listener.waiting(CHANNEL, "a") as mine:
        async with listener.running():
            assert await mine.wait(_SOON_S)
            waits = asyncio.create_task(mine.wait(_SOON_S * 10))
            await asyncio.sleep(0)
        async with asyncio.timeout(_SOON_S):
            assert await waits
