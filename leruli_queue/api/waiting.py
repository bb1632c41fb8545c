"""Calls that wait until there is something to answer: long polls.

A waiting call holds no connection to PostgreSQL. A bell tells it when to read again.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Collection, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar
from weakref import WeakSet

from fastapi import Request

# A bell can fail to ring while the database is away, and a secret can be revoked meanwhile.
_READ_AGAIN_S = 15.0

_Answer = TypeVar("_Answer")


class Bells:
    """A bell for each waiting call, by the keys that it waits for."""

    def __init__(self) -> None:
        self._by_key: defaultdict[Hashable, set[asyncio.Event]] = defaultdict(set)

    def __bool__(self) -> bool:
        return bool(self._by_key)

    @contextmanager
    def bell(self, keys: Collection[Hashable]) -> Iterator[asyncio.Event]:
        """Give a bell that rings for each of the keys, during the block."""
        bell = asyncio.Event()
        for key in keys:
            self._by_key[key].add(bell)
        try:
            yield bell
        finally:
            for key in keys:
                self._by_key[key].discard(bell)
                if not self._by_key[key]:
                    del self._by_key[key]

    def ring(self, keys: Collection[Hashable]) -> None:
        """Ring the bells of these keys."""
        for key in keys:
            for bell in self._by_key.get(key, ()):
                bell.set()

    def ring_all(self) -> None:
        """Ring every bell: nobody knows what was missed."""
        self.ring(list(self._by_key))


@dataclass(frozen=True)
class Reading(Generic[_Answer]):
    """What a waiting call has read."""

    answer: _Answer
    # Whether there is something to answer.
    is_done: bool


class Waits:
    """Lets calls wait, a limited number of them.

    Parameters
    ----------
    most
        Calls of this process that may wait at once. A further one is answered without waiting.
    most_of_one
        The same for the calls of one owner.
    """

    def __init__(self, *, most: int, most_of_one: int) -> None:
        self._most = most
        self._most_of_one = most_of_one
        self._waiting: Counter[str] = Counter()
        self._ending: set[asyncio.Event] = set()
        _all.add(self)

    def end(self) -> None:
        """Have the calls that wait now answered."""
        for ending in self._ending:
            ending.set()

    async def until_done(
        self,
        read: Callable[[], Awaitable[Reading[_Answer]]],
        request: Request,
        *,
        bells: Bells,
        keys: Collection[Hashable],
        owner: str,
        wait_s: float,
    ) -> _Answer:
        """Read until there is something to answer, the time is over, or the client has gone.

        Parameters
        ----------
        read
            Authorises and reads; holds a connection only during the call.
        bells, keys
            Ring when it is worth reading again.
        owner
            Of whom only so many calls may wait.
        """
        if not wait_s or self._is_full(owner):
            return (await read()).answer
        clock = asyncio.get_running_loop()
        until = clock.time() + wait_s
        ending = asyncio.Event()
        over = {asyncio.create_task(_disconnected(request)), asyncio.create_task(_set(ending))}
        self._waiting[owner] += 1
        self._ending.add(ending)
        try:
            with bells.bell(keys) as bell:
                while True:
                    bell.clear()
                    reading = await read()
                    left_s = until - clock.time()
                    if reading.is_done or left_s <= 0 or any(task.done() for task in over):
                        return reading.answer
                    await _rings(bell, over, min(left_s, _READ_AGAIN_S))
        finally:
            for task in over:
                task.cancel()
            self._ending.discard(ending)
            self._waiting[owner] -= 1
            if not self._waiting[owner]:
                del self._waiting[owner]

    def _is_full(self, owner: str) -> bool:
        return self._waiting.total() >= self._most or self._waiting[owner] >= self._most_of_one


_all: WeakSet[Waits] = WeakSet()


def answer_waiting_calls() -> None:
    """Have all waiting calls of this process answered: it is about to end."""
    for waits in _all:
        waits.end()


async def _rings(bell: asyncio.Event, over: set[asyncio.Task[None]], pause_s: float) -> None:
    ringing = asyncio.create_task(bell.wait())
    try:
        await asyncio.wait({ringing, *over}, timeout=pause_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        ringing.cancel()


async def _disconnected(request: Request) -> None:
    """Return when the client has gone. The body of the request has been read before."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _set(event: asyncio.Event) -> None:
    await event.wait()
