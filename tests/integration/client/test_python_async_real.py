"""`leruli.aio` with the real service."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time

import pytest
from batch_world import later, set_states

import leruli
from leruli import aio

_CANCELLED = """
import asyncio, sys
from leruli import aio

async def main():
    try:
        await asyncio.wait_for(aio.wait(sys.argv[1:]), 2)
    except asyncio.TimeoutError:
        print("cancelled")

asyncio.run(main())
"""


async def test_wait_beside_other_tasks(queue, group, few):
    later(1, queue, group, "completed", few)
    ticks = 0

    async def tick():
        nonlocal ticks
        while True:
            await asyncio.sleep(0.05)
            ticks += 1

    ticking = asyncio.create_task(tick())
    found = await aio.wait(few)
    ticking.cancel()
    assert [one.state for one in found] == ["completed"] * 3
    assert ticks > 5


async def test_as_completed(queue, group, few):
    later(1, queue, group, "completed", few[2:])
    later(3, queue, group, "failed", few[:2])
    found = [one.job async for one in aio.as_completed(few)]
    assert found[0] == str(few[2])
    assert sorted(found) == sorted(str(folder) for folder in few)


async def test_a_timeout_is_that_of_the_iterator(few):
    with pytest.raises(TimeoutError, match="Not over yet: 3 of 3 jobs"):
        async for _ in aio.as_completed(few, timeout=1):
            pass


async def test_events(queue, group, few):
    later(1, queue, group, "running", few[:1])
    async for event in aio.events(timeout=20):
        assert (event.name, event.state) == ("case-0", "running")
        break
    else:
        raise AssertionError("no event came")


async def test_errors_reach_the_task_that_waits(few):
    with pytest.raises(leruli.OldCursorError):
        async for _ in aio.events("0-0"):
            pass
    with pytest.raises(TypeError):
        await aio.wait("case-0")


async def test_the_thread_of_a_cancelled_task_ends(queue, group, few):
    waiting = asyncio.create_task(aio.wait(few))
    await asyncio.sleep(1.5)
    [thread] = threads()
    waiting.cancel()
    began = time.monotonic()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert time.monotonic() - began < 1
    # Its call of the queue is answered now; it makes no other.
    await asyncio.to_thread(set_states, queue, group, "completed", few[:1])
    await asyncio.to_thread(thread.join, 10)
    assert not thread.is_alive()


def threads():
    return [one for one in threading.enumerate() if one.name == "leruli-aio"]


def test_a_program_ends_while_a_call_waits(real, few):
    jobs = [(folder / "leruli.job").read_text().strip() for folder in few]
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", _CANCELLED, *jobs], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "cancelled\n"), done.stderr
    assert time.monotonic() - began < 20
