"""The nodes that each group's jobs may be placed on, as the database has them now."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from uuid import UUID

from leruli_queue.nomad.templates import node_set_digest
from leruli_queue.store.pool import Pool
from leruli_queue.store.queries import queries


@dataclass(frozen=True)
class GroupNodes:
    """A group and the nodes that may start its jobs."""

    group_id: int
    group_key_id: str
    node_ids: tuple[UUID, ...]
    digest: str


async def usable_nodes(pool: Pool) -> dict[int, GroupNodes]:
    """Return the usable nodes by group id; a group without any is not in it."""
    by_group: dict[tuple[int, str], list[UUID]] = defaultdict(list)
    async for row in queries.usable_nodes(pool):
        by_group[row["group_id"], row["token_key_id"]].append(row["id"])
    return {
        group_id: GroupNodes(group_id, key_id, tuple(node_ids), node_set_digest(node_ids))
        for (group_id, key_id), node_ids in by_group.items()
    }
