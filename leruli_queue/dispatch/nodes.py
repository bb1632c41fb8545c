"""The nodes that each group's jobs may be placed on, as the database has them now."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from leruli_queue.nodes.sizes import Size
from leruli_queue.nomad.templates import template
from leruli_queue.store.pool import Pool
from leruli_queue.store.queries import queries


@dataclass(frozen=True)
class GroupNodes:
    """A group and the nodes that may start its jobs, without those kept for one job.

    Which nodes are kept, and for what: :mod:`leruli_queue.dispatch.reservations`.
    """

    group_id: int
    group_key_id: str
    # See leruli_queue.nodes.pools.hidden.
    hiding_key: bytes = field(repr=False)
    node_ids: tuple[UUID, ...]
    # Changes whenever a node joins, leaves, is kept or given free, or comes back with another size,
    # and with the template of parents.
    digest: str
    # The same of all nodes, with those that are kept.
    digest_of_all: str
    # Of those that live, together.
    cores: int
    memory_mb: int
    # Of each that lives, those that are kept among them.
    sizes: frozenset[Size]


@dataclass(frozen=True)
class _Node:
    id: UUID
    cores: int
    memory_mb: int
    alive: bool
    kept: bool


async def usable_nodes(pool: Pool, cluster: str) -> dict[int, GroupNodes]:
    """Return the usable nodes of a cluster by group id; a group without any is not in it."""
    by_group: dict[tuple[int, str, bytes], list[_Node]] = defaultdict(list)
    async for row in queries.usable_nodes(pool, cluster=cluster):
        by_group[row["group_id"], row["token_key_id"], row["token_hash"]].append(
            _Node(
                row["id"],
                row["cores"],
                row["memory_mb"],
                row["alive"],
                row["reserved_for"] is not None,
            )
        )
    return {group[0]: _group_nodes(*group, nodes) for group, nodes in by_group.items()}


def _group_nodes(
    group_id: int, key_id: str, hiding_key: bytes, nodes: Sequence[_Node]
) -> GroupNodes:
    free = [node for node in nodes if not node.kept]
    digest_of_all = _digest(nodes)
    return GroupNodes(
        group_id,
        key_id,
        hiding_key,
        tuple(node.id for node in free),
        # Nearly always none is kept, and this is done at each look, for thousands of nodes.
        digest_of_all if len(free) == len(nodes) else _digest(free),
        digest_of_all,
        sum(node.cores for node in free if node.alive),
        sum(node.memory_mb for node in free if node.alive),
        frozenset((node.cores, node.memory_mb) for node in nodes if node.alive),
    )


def _digest(nodes: Iterable[_Node]) -> str:
    # With the template, so that what an earlier release dispatched, and nodes of this one cannot
    # run, is taken back as if all nodes were others.
    described = sorted(f"{node.id}:{node.cores}:{node.memory_mb}" for node in nodes)
    text = ",".join([template(), *described])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
