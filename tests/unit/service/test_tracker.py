from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from leruli_queue.dispatch import tracker as module
from leruli_queue.dispatch.tracker import Tracker


class StreamEndsError(Exception):
    pass


async def test_events_that_come_during_a_write_are_written_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A FAKE stream and reconciler: a test cannot make real ones send during a slow write."""
    done: list[Any] = []
    all_read = asyncio.Event()

    async def stream(_cluster: object) -> AsyncIterator[list[dict[str, Any]]]:
        yield []
        await asyncio.sleep(0)
        for number in range(5):
            yield [{"number": number}]
        all_read.set()
        await asyncio.sleep(0.1)
        raise StreamEndsError

    class Reconciler:
        async def compare(self) -> None:
            await all_read.wait()
            done.append("compared")

    async def note(events: Any) -> None:
        done.append([event["number"] for event in events])

    monkeypatch.setattr(module, "stream_events", stream)
    following = Tracker(cast(Any, None), cast(Any, None), cast(Any, Reconciler()))
    monkeypatch.setattr(following, "note", note)
    with pytest.raises(BaseExceptionGroup) as caught:
        await following.run()
    assert caught.group_contains(StreamEndsError)
    assert done == ["compared", [0, 1, 2, 3, 4]]
