"""Permits for calls that may take seconds: a fixed number, shared in turns between groups."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Permits:
    """Lets ``total`` calls run at a time, and at most half of them for one group.

    Calls without a permit wait. Waiting groups take turns, so a group with many calls does not
    delay the others. Permits are counted by group and not by secret: the holder of one secret can
    delay only members of its own group.
    """

    def __init__(self, total: int) -> None:
        self._free = total
        # Leave some for other groups. A single permit cannot be shared.
        self._of_a_group = max(1, total // 2)
        self._in_use: Counter[int] = Counter()
        self._waiting: OrderedDict[int, deque[asyncio.Future[None]]] = OrderedDict()

    @asynccontextmanager
    async def one(self, group_id: int, *, timeout_s: float) -> AsyncIterator[None]:
        """Hold a permit in the block.

        Raises
        ------
        TimeoutError
            When no permit was free for ``timeout_s``.
        """
        await self._acquire(group_id, timeout_s)
        try:
            yield
        finally:
            self._release(group_id)

    async def _acquire(self, group_id: int, timeout_s: float) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(group_id, deque()).append(turn)
        self._hand_out()
        try:
            async with asyncio.timeout(timeout_s):
                await turn
        except BaseException:
            if turn.done() and not turn.cancelled():
                self._release(group_id)
            else:
                self._leave(group_id, turn)
            raise

    def _release(self, group_id: int) -> None:
        self._free += 1
        self._in_use[group_id] -= 1
        if not self._in_use[group_id]:
            del self._in_use[group_id]
        self._hand_out()

    def _leave(self, group_id: int, turn: asyncio.Future[None]) -> None:
        waiting = self._waiting.get(group_id, deque())
        # It is missing if its turn came after it was cancelled.
        if turn in waiting:
            waiting.remove(turn)
        if not waiting:
            self._waiting.pop(group_id, None)

    def _hand_out(self) -> None:
        while self._free:
            may = (g for g in self._waiting if self._in_use[g] < self._of_a_group)
            group_id = next(may, None)
            if group_id is None:
                return
            turn = self._waiting[group_id].popleft()
            if self._waiting[group_id]:
                self._waiting.move_to_end(group_id)
            else:
                del self._waiting[group_id]
            if not turn.done():  # done: cancelled, but still in the deque
                self._free -= 1
                self._in_use[group_id] += 1
                turn.set_result(None)
