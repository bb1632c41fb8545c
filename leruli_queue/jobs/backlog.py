"""The limit of the backlog: it keeps queued jobs from filling the database's disk.

A slow or absent Nomad delays no submission: jobs are queued in PostgreSQL, where a million of them
cost only disk space. A group that reaches its limit gets 503 and tries again later. Each user has a
lower limit than the group, so that one user cannot use up the group's capacity.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from leruli_queue.errors import UserReportableError
from leruli_queue.store.pool import Connection
from leruli_queue.store.queries import queries

_RETRY_AFTER_S = 60
# Counting a million jobs takes 0.1 s, so it is not done for each submission. A count is used for
# _COUNT_EVERY_S, and for at least _COUNT_SHARE times the time that the count took.
_COUNT_EVERY_S = 1.0
_COUNT_SHARE = 50
# Count this far beyond the limit, so that a refusal names the true number of queued jobs.
_COUNT_FURTHER = 1000


Submitter: TypeAlias = tuple[int, int]
"""The ids of a group and of one of its users."""

Ask: TypeAlias = Callable[[], Awaitable[int]]


@dataclass
class _Count:
    """Queued jobs of a group or a user, as this process last counted them."""

    queued: int
    valid_until: float


class Backlog:
    """Refuses submissions of groups and users that have too many queued jobs.

    The limit is soft, for two reasons:

    - While there is capacity for one more job, a whole request is accepted. A client repeats a
      refused request unchanged, so one that is larger than the limit would be refused for ever.
    - Jobs that other copies of the service accepted since the last count are not counted yet.
    """

    def __init__(self, most: int, most_of_user: int) -> None:
        self._most = most
        self._most_of_user = most_of_user
        self._of_groups: dict[int, _Count] = {}
        self._of_users: dict[int, _Count] = {}

    async def check_capacity(self, connection: Connection, jobs: Mapping[Submitter, int]) -> None:
        """Accept a request if each group and each user has capacity, and count its jobs.

        Raises
        ------
        UserReportableError
            503 when a group or a user has no capacity left; the client tries again.
        """
        for group_id, user_id in jobs:
            await self._count(self._of_groups, group_id, self._in_group(connection, group_id))
            # A user cannot be at the limit while the whole group is below it.
            if self._of_groups[group_id].queued >= self._most_of_user:
                await self._count(self._of_users, user_id, self._of_user(connection, user_id))
        # No await from here on: concurrent requests must see each other's jobs.
        for group_id, user_id in jobs:
            _refuse_if_full("The group has", self._of_groups[group_id].queued, self._most)
            user = self._of_users.get(user_id)
            # The user was not counted if the group reached the limit during the counts above.
            if user is not None and self._of_groups[group_id].queued >= self._most_of_user:
                _refuse_if_full("One user has", user.queued, self._most_of_user)
        for (group_id, user_id), count in jobs.items():
            self._of_groups[group_id].queued += count
            if user_id in self._of_users:
                self._of_users[user_id].queued += count

    def _in_group(self, connection: Connection, group_id: int) -> Ask:
        most = self._most + _COUNT_FURTHER
        return lambda: queries.count_backlog(connection, group_id=group_id, most=most)

    def _of_user(self, connection: Connection, user_id: int) -> Ask:
        most = self._most_of_user + _COUNT_FURTHER
        return lambda: queries.count_backlog_of_user(connection, user_id=user_id, most=most)

    async def _count(self, counts: dict[int, _Count], of: int, ask: Ask) -> None:
        began = time.monotonic()
        known = counts.get(of)
        if known is None or known.valid_until < began:
            queued = await ask()
            now = time.monotonic()
            counts[of] = _Count(queued, now + max(_COUNT_EVERY_S, _COUNT_SHARE * (now - began)))


def _refuse_if_full(whose: str, queued: int, most: int) -> None:
    if queued >= most:
        raise UserReportableError(
            f"{whose} {queued} jobs waiting, and at most {most} may wait. Nothing was accepted or "
            "lost; try again when some have started, or cancel some.",
            status=503,
            retry_after=_RETRY_AFTER_S,
        )
