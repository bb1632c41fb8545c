"""Questions to Nomad about single allocations and jobs, a few at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

# Of the gateway's threads; the dispatches go on meanwhile.
_AT_ONCE = 4

Answer = TypeVar("Answer")


async def few_at_once(ask: Callable[[str], Awaitable[Answer]], ids: Iterable[str]) -> list[Answer]:
    """Ask Nomad about each of these, a few at the same time; the answers are in their order."""
    places = asyncio.Semaphore(_AT_ONCE)

    async def ask_in_turn(one: str) -> Answer:
        async with places:
            return await ask(one)

    return await asyncio.gather(*(ask_in_turn(one) for one in ids))
