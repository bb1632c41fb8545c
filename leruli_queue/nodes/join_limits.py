"""How many nodes a group may have, and how often its machines may join."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from leruli_queue.errors import UserReportableError
from leruli_queue.store.pool import Connection, Pool
from leruli_queue.store.queries import queries

_MINUTE_S = 60.0


@dataclass
class _Room:
    joins: float
    known_at: float


class JoinLimits:
    """Refuses machines of groups that join too often, or have too many nodes already.

    Each join costs Nomad a token and the service a row for good. Whoever has both secrets of a
    group could flood all groups of a cluster with them.
    """

    def __init__(self, most_nodes: int, unseen_s: float, a_minute: int) -> None:
        self._most_nodes = most_nodes
        self._unseen_s = unseen_s
        self._a_minute = a_minute
        self._rooms: dict[int, _Room] = {}

    def take(self, group_id: int) -> None:
        """Count one join of a group, as this process knows them.

        Raises
        ------
        UserReportableError
            503 when it is too many: the machine comes again.
        """
        now = time.monotonic()
        room = self._rooms.setdefault(group_id, _Room(self._a_minute, now))
        grown = (now - room.known_at) * self._a_minute / _MINUTE_S
        room.joins, room.known_at = min(self._a_minute, room.joins + grown), now
        if room.joins < 1:
            raise UserReportableError(
                f"Machines of the group have joined more than {self._a_minute} times in a minute. "
                "Nothing was changed; this machine tries again in a moment.",
                status=503,
                retry_after=math.ceil((1 - room.joins) * _MINUTE_S / self._a_minute),
            )
        room.joins -= 1

    async def make_room(self, connection: Connection | Pool, group_id: int) -> None:
        """Return if the group may have one more node.

        Raises
        ------
        UserReportableError
            503 when it has as many as it may have.
        """
        count = await queries.count_seen_nodes(
            connection, group_id=group_id, unseen_s=self._unseen_s
        )
        if count >= self._most_nodes:
            raise UserReportableError(
                f"The group has {count} nodes, and no more than {self._most_nodes} may join. An "
                "admin removes those that are gone for good with group-node-remove; what is not "
                "seen for long enough does not count.",
                status=503,
                retry_after=60,
            )
