"""How many jobs may wait: what keeps a backlog that nothing drains from filling a disk.

A Nomad that is slow or away holds up no submit: jobs wait in PostgreSQL, where a million of them
cost nothing but room. That room has an end, and a group that reaches its own is told to come again.
One user can fill only a part of it, so that the others of the group find room.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from leruli_queue.errors import UserReportableError
from leruli_queue.store.pool import Connection
from leruli_queue.store.queries import queries

_COME_AGAIN_S = 60
# Counting a million takes a tenth of a second. So it is not done for each submit, but when the last
# count is older than this, and than so many times what that took.
_COUNT_EVERY_S = 1.0
_COUNT_SHARE = 50
# Beyond the bound, so that a refusal tells what a post took above it.
_COUNT_FURTHER = 1000


Submitter: TypeAlias = tuple[int, int]
"""The ids of a group and of a user of it."""

Ask: TypeAlias = Callable[[], Awaitable[int]]


@dataclass
class _Count:
    """Jobs of a group or a user that wait, as one process knows it."""

    waiting: int
    good_until: float


class Backlog:
    """Refuses jobs of groups and users of whom too many wait already.

    The bound is soft. While there is room for one more a post is taken whole: a client repeats what
    was refused as it was, and would wait for ever where its posts are larger than the bound. And
    what other copies took in since the last count is not in it.
    """

    def __init__(self, most: int, most_of_user: int) -> None:
        self._most = most
        self._most_of_user = most_of_user
        self._of_groups: dict[int, _Count] = {}
        self._of_users: dict[int, _Count] = {}

    async def make_room(self, connection: Connection, jobs: Mapping[Submitter, int]) -> None:
        """Return if each group, and each user, may have a post of so many jobs more.

        Raises
        ------
        UserReportableError
            503 when not: the client comes again.
        """
        for group_id, user_id in jobs:
            await self._count(self._of_groups, group_id, self._in_group(connection, group_id))
            # While fewer of all of them wait, fewer of the user do.
            if self._of_groups[group_id].waiting >= self._most_of_user:
                await self._count(self._of_users, user_id, self._of_user(connection, user_id))
        # From here on without a pause: of posts that come together, one sees what the other takes.
        for group_id, user_id in jobs:
            _refuse_if_full("The group has", self._of_groups[group_id].waiting, self._most)
            user = self._of_users.get(user_id)
            # Not counted where the group came to the bound while another one was counted.
            if user is not None and self._of_groups[group_id].waiting >= self._most_of_user:
                _refuse_if_full("One user has", user.waiting, self._most_of_user)
        for (group_id, user_id), count in jobs.items():
            self._of_groups[group_id].waiting += count
            if user_id in self._of_users:
                self._of_users[user_id].waiting += count

    def _in_group(self, connection: Connection, group_id: int) -> Ask:
        most = self._most + _COUNT_FURTHER
        return lambda: queries.count_waiting(connection, group_id=group_id, most=most)

    def _of_user(self, connection: Connection, user_id: int) -> Ask:
        most = self._most_of_user + _COUNT_FURTHER
        return lambda: queries.count_waiting_of_user(connection, user_id=user_id, most=most)

    async def _count(self, counts: dict[int, _Count], of: int, ask: Ask) -> None:
        began = time.monotonic()
        known = counts.get(of)
        if known is None or known.good_until < began:
            waiting = await ask()
            now = time.monotonic()
            counts[of] = _Count(waiting, now + max(_COUNT_EVERY_S, _COUNT_SHARE * (now - began)))


def _refuse_if_full(whose: str, waiting: int, most: int) -> None:
    if waiting >= most:
        raise UserReportableError(
            f"{whose} {waiting} jobs waiting, and no more than {most} may wait. Nothing was taken "
            "or lost; try again when some have started, or cancel some.",
            status=503,
            retry_after=_COME_AGAIN_S,
        )
