"""One connection that listens to PostgreSQL's notifications, for all waiters of a process.

A waiter names a channel, and the payload that concerns it. It holds no connection. A notification
is a hint that there is something to read. So a waiter reads the database before it waits, and when
it is woken. After the connection was lost, every waiter is woken: notifications may be missed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import structlog

from leruli_queue.errors import SetupError
from leruli_queue.settings import Settings
from leruli_queue.store.pool import DATABASE_AWAY, Connection, connect

log = structlog.get_logger(__name__)

_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 5.0
# A connection whose other end is gone without a word is noticed by this.
_CHECK_EVERY_S = 30.0

_Key = tuple[str, str | None]


class Waiter:
    """Somebody who waits for notifications."""

    def __init__(self) -> None:
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Let :meth:`wait` return."""
        self._woken.set()

    async def wait(self, seconds: float) -> bool:
        """Wait to be woken, at most this long. Return whether it was woken since the last call."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        was_woken = self._woken.is_set()
        self._woken.clear()
        return was_woken


class Listener:
    """Listens to channels of PostgreSQL, and wakes the waiters of their payloads.

    Parameters
    ----------
    settings
        Where the database is.
    channels
        The channels to listen to.
    """

    def __init__(self, settings: Settings, channels: Collection[str]) -> None:
        self._settings = settings
        self._channels = tuple(channels)
        self._waiters: dict[_Key, set[Waiter]] = {}

    @contextmanager
    def waiting(self, channel: str, payload: str | None = None) -> Iterator[Waiter]:
        """Be a waiter in the block: for one payload of a channel, or for all (None)."""
        key, waiter = (channel, payload), Waiter()
        self._waiters.setdefault(key, set()).add(waiter)
        try:
            yield waiter
        finally:
            others = self._waiters[key]
            others.discard(waiter)
            if not others:
                del self._waiters[key]

    def wake_all(self) -> None:
        """Wake every waiter."""
        for waiters in self._waiters.values():
            for waiter in waiters:
                waiter.wake()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Listen in the block. While the database is away, keep trying to connect."""
        work = asyncio.create_task(self._listen_for_ever())
        try:
            yield
        finally:
            work.cancel()
            await asyncio.wait({work})
            self.wake_all()

    async def _listen_for_ever(self) -> None:
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                connection = await connect(self._settings)
                pause_s = _FIRST_PAUSE_S
                await self._listen(connection)
            except (*DATABASE_AWAY, SetupError) as error:
                log.warning("not listening to the database", why=type(error).__name__)
            except Exception:
                log.exception("listening to the database failed unexpectedly")
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def _listen(self, connection: Connection) -> None:
        """Listen on this connection until it is lost."""
        lost = asyncio.Event()
        try:
            connection.add_termination_listener(lambda _: lost.set())
            for channel in self._channels:
                await connection.add_listener(channel, self._be_notified)
            # What was notified before this line may have been missed.
            self.wake_all()
            while not lost.is_set():
                with suppress(TimeoutError):
                    async with asyncio.timeout(_CHECK_EVERY_S):
                        await lost.wait()
                if not lost.is_set():
                    await connection.execute("SELECT")
        finally:
            # Not close(): it waits for an answer of a server that may be gone.
            connection.terminate()

    def _be_notified(self, _connection: Any, _pid: int, channel: str, payload: object) -> None:
        for key in ((channel, str(payload)), (channel, None)):
            for waiter in self._waiters.get(key, ()):
                waiter.wake()
