"""Calls to Nomad about single allocations and jobs, a few at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

# Threads of the gateway that these calls may use. Dispatches go on meanwhile.
_AT_ONCE = 4

Answer = TypeVar("Answer")


async def few_at_once(ask: Callable[[str], Awaitable[Answer]], ids: Iterable[str]) -> list[Answer]:
    """Call `ask` for each id, a few at the same time; return the answers in the order of ids."""
    places = asyncio.Semaphore(_AT_ONCE)

    async def ask_in_turn(one: str) -> Answer:
        async with places:
            return await ask(one)

    return await asyncio.gather(*(ask_in_turn(one) for one in ids))
