"""Limits of a group: the number of its nodes, and how often machines may join."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from leruli_queue.errors import UserReportableError
from leruli_queue.store.pool import Connection, Pool
from leruli_queue.store.queries import queries

_MINUTE_S = 60.0


@dataclass
class _TokenBucket:
    joins: float
    updated_at: float


class JoinLimits:
    """Refuses joins of a group that are too frequent, or exceed its number of nodes.

    Each join costs Nomad a token, and a new node leaves a row in the database for good. Without
    limits, a holder of both secrets of one group could flood all groups of a cluster.

    Parameters
    ----------
    most_nodes
        Nodes of a group; those unseen for ``unseen_s`` do not count.
    a_minute
        Joins of a group in a minute, in this process.
    """

    def __init__(self, most_nodes: int, unseen_s: float, a_minute: int) -> None:
        self._most_nodes = most_nodes
        self._unseen_s = unseen_s
        self._a_minute = a_minute
        self._buckets: dict[int, _TokenBucket] = {}

    def take(self, group_id: int) -> None:
        """Count one join of a group in this process (a token bucket).

        Raises
        ------
        UserReportableError
            503 when the joins are too frequent; the machine tries again.
        """
        now = time.monotonic()
        bucket = self._buckets.setdefault(group_id, _TokenBucket(self._a_minute, now))
        refilled = (now - bucket.updated_at) * self._a_minute / _MINUTE_S
        bucket.joins, bucket.updated_at = min(self._a_minute, bucket.joins + refilled), now
        if bucket.joins < 1:
            raise UserReportableError(
                f"Machines of the group have joined more than {self._a_minute} times in a minute. "
                "Nothing was changed; this machine tries again in a moment.",
                status=503,
                retry_after=math.ceil((1 - bucket.joins) * _MINUTE_S / self._a_minute),
            )
        bucket.joins -= 1

    async def check_capacity(self, connection: Connection | Pool, group_id: int) -> None:
        """Check that the group may have one more node.

        Raises
        ------
        UserReportableError
            503 when the group has its full number of nodes.
        """
        count = await queries.count_seen_nodes(
            connection, group_id=group_id, unseen_s=self._unseen_s
        )
        if count >= self._most_nodes:
            raise UserReportableError(
                f"The group has {count} nodes, and no more than {self._most_nodes} may join. An "
                "admin can remove those that are gone for good with group-node-remove; nodes that "
                "were not seen for long do not count.",
                status=503,
                retry_after=60,
            )
