"""The nodes that each group's jobs may be placed on, as the database has them now."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass, field
from uuid import UUID

from leruli_queue.store.pool import Pool
from leruli_queue.store.queries import queries


@dataclass(frozen=True)
class GroupNodes:
    """A group and the nodes that may start its jobs."""

    group_id: int
    group_key_id: str
    # See leruli_queue.nodes.pools.hidden.
    hiding_key: bytes = field(repr=False)
    node_ids: tuple[UUID, ...]
    # Changes whenever a node joins, leaves, or comes back with another size.
    digest: str
    # Of those that live, together.
    cores: int
    memory_mb: int


async def usable_nodes(pool: Pool, cluster: str) -> dict[int, GroupNodes]:
    """Return the usable nodes of a cluster by group id; a group without any is not in it."""
    by_group: dict[tuple[int, str, bytes], list[tuple[UUID, int, int]]] = defaultdict(list)
    cores: defaultdict[int, int] = defaultdict(int)
    memory_mb: defaultdict[int, int] = defaultdict(int)
    async for row in queries.usable_nodes(pool, cluster=cluster):
        node = (row["id"], row["cores"], row["memory_mb"])
        by_group[row["group_id"], row["token_key_id"], row["token_hash"]].append(node)
        if row["alive"]:
            cores[row["group_id"]] += row["cores"]
            memory_mb[row["group_id"]] += row["memory_mb"]
    return {
        group_id: GroupNodes(
            group_id,
            key_id,
            hiding_key,
            tuple(node[0] for node in nodes),
            _digest(nodes),
            cores[group_id],
            memory_mb[group_id],
        )
        for (group_id, key_id, hiding_key), nodes in by_group.items()
    }


def _digest(nodes: list[tuple[UUID, int, int]]) -> str:
    text = ",".join(f"{node_id}:{cores}:{memory}" for node_id, cores, memory in sorted(nodes))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
