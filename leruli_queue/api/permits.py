"""Calls that may take seconds: a bounded number at a time, in turns between the groups that ask."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Permits:
    """Lets a few calls go on at a time, and of one group only some of them.

    Whoever asks while there is none waits. The groups that wait have turns, so that one which asks
    often keeps no other from its turn. Groups, and not secrets: whoever has one secret of a group
    can make its members wait, and nobody else.
    """

    def __init__(self, total: int) -> None:
        self._free = total
        # While another group might ask: with one permit in all there is nothing to share.
        self._of_a_group = max(1, total // 2)
        self._in_use: Counter[int] = Counter()
        self._waiting: OrderedDict[int, deque[asyncio.Future[None]]] = OrderedDict()

    @asynccontextmanager
    async def one(self, group_id: int, *, patience_s: float) -> AsyncIterator[None]:
        """Hold a permit inside of the block.

        Raises
        ------
        TimeoutError
            When there was none for so many seconds.
        """
        await self._acquire(group_id, patience_s)
        try:
            yield
        finally:
            self._release(group_id)

    async def _acquire(self, group_id: int, patience_s: float) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(group_id, deque()).append(turn)
        self._hand_out()
        try:
            async with asyncio.timeout(patience_s):
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
        # Not there when its turn came between its end and now.
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
            if not turn.done():  # whoever gave up has not left yet
                self._free -= 1
                self._in_use[group_id] += 1
                turn.set_result(None)
