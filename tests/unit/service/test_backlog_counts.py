"""The bounds of the backlog while others submit: a FAKE of the database's counts."""

from __future__ import annotations

from typing import Any

from leruli_queue.jobs.backlog import Backlog, _Count


async def test_a_group_that_comes_to_the_bound_while_another_is_counted_is_no_defect() -> None:
    """A user who had not been counted was looked up: the whole post ended in an internal error."""

    class Backlogs(Backlog):
        async def _count(self, counts: dict[int, _Count], of: int, ask: Any) -> None:
            counts[of] = _Count(waiting=0, good_until=0)
            if of == 2:
                self._of_groups[1].waiting = 5

    nobody: Any = None
    await Backlogs(most=10, most_of_user=5).make_room(nobody, {(1, 11): 1, (2, 22): 1})
