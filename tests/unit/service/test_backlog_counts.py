"""The limits of the backlog during other submissions, with a FAKE of the database's counts."""

from __future__ import annotations

from typing import Any

from leruli_queue.jobs.backlog import Backlog, _Count


async def test_a_group_may_reach_its_limit_while_another_is_counted() -> None:
    """The count of a user who had not been counted was read: an internal error."""

    class Backlogs(Backlog):
        async def _count(self, counts: dict[int, _Count], of: int, ask: Any) -> None:
            counts[of] = _Count(queued=0, valid_until=0)
            if of == 2:
                self._of_groups[1].queued = 5

    nobody: Any = None
    await Backlogs(most=10, most_of_user=5).check_capacity(nobody, {(1, 11): 1, (2, 22): 1})
