"""Permits of long calls, and the turns of the groups."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from leruli_queue.api.permits import Permits


async def waiting_for(permits: Permits, group: int, came: list[int]) -> None:
    async with permits.one(group, timeout_s=10):
        came.append(group)
        await asyncio.sleep(0)


async def test_groups_take_turns_however_many_calls_of_one_wait() -> None:
    """M11: with "first come, first served" one group got in first with all of its calls."""
    permits, came = Permits(1), list[int]()
    async with permits.one(1, timeout_s=10):
        tasks = [asyncio.create_task(waiting_for(permits, g, came)) for g in (1, 1, 1, 2, 3, 2)]
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    assert came == [1, 2, 3, 1, 2, 1]


async def test_one_group_gets_only_some_of_the_permits() -> None:
    permits = Permits(4)
    async with AsyncExitStack() as held:
        for _ in range(2):
            await held.enter_async_context(permits.one(1, timeout_s=10))
        with pytest.raises(TimeoutError):
            await held.enter_async_context(permits.one(1, timeout_s=0.01))
        for group in (2, 3):
            await held.enter_async_context(permits.one(group, timeout_s=10))
        with pytest.raises(TimeoutError):
            await held.enter_async_context(permits.one(4, timeout_s=0.01))
    assert (permits._free, permits._in_use, permits._waiting) == (4, {}, {})


async def test_a_call_that_timed_out_takes_no_turn() -> None:
    permits = Permits(1)
    async with permits.one(1, timeout_s=10):
        tasks = [asyncio.create_task(waiting_for(permits, 2, [])) for _ in range(2)]
        await asyncio.sleep(0)
        tasks[0].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert tasks[0].cancelled()
    assert not tasks[1].exception()
    assert (permits._free, permits._in_use, permits._waiting) == (1, {}, {})
