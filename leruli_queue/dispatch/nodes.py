"""The nodes that each group's jobs may be placed on, as the database has them now."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID

from leruli_queue.jobs.sizes import Size, memory_steps, one_fits
from leruli_queue.nomad.templates import template
from leruli_queue.store.pool import Pool
from leruli_queue.store.queries import queries


@dataclass(frozen=True)
class GroupNodes:
    """A group and the nodes that may start its jobs, without those kept for one job or held back.

    Which nodes are kept, and for what: :mod:`leruli_queue.dispatch.reservations`. Which are held
    back: :mod:`leruli_queue.jobs.quarantine`.
    """

    group_id: int
    group_key_id: str
    # See leruli_queue.naming.hidden.
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
    # All of them, the held ones as well.
    nodes: tuple[UsableNode, ...] = field(repr=False)
    # Whether it is a part of the group's nodes, chosen for some jobs alone.
    few: bool = False

    def without(self, avoided: Container[UUID], cores: int, memory_mb: int) -> GroupNodes:
        """Return the nodes but these; all, when no other living one takes a job of this size."""
        rest = [node for node in self.nodes if node.id not in avoided]
        able = (node for node in rest if node.alive and not (node.kept or node.held))
        if len(rest) == len(self.nodes) or not one_fits(
            ((node.cores, node.memory_mb) for node in able), cores, memory_mb
        ):
            return self
        return replace(self._of(rest), few=True)

    def only(self, node_id: UUID) -> GroupNodes | None:
        """Return one node, held back or not; None when it is not the group's any more."""
        [*found] = (replace(node, held=False) for node in self.nodes if node.id == node_id)
        return replace(self._of(found), few=True) if found else None

    def _of(self, nodes: Sequence[UsableNode]) -> GroupNodes:
        return _group_nodes(self.group_id, self.group_key_id, self.hiding_key, nodes)

    @property
    def memory_steps(self) -> tuple[int, ...]:
        """The amounts of memory that Nomad is asked for, as :func:`memory_steps` has them."""
        # With those that are held back, which a job may be sent to as a probe.
        return memory_steps(
            frozenset((node.cores, node.memory_mb) for node in self.nodes if node.alive)
        )


@dataclass(frozen=True)
class UsableNode:
    """One of a group's nodes."""

    id: UUID
    cores: int
    memory_mb: int
    alive: bool
    # For one job that starves.
    kept: bool
    # Gets no job but probes.
    held: bool


async def usable_nodes(
    pool: Pool, cluster: str, unseen_s: float = 86_400.0
) -> dict[int, GroupNodes]:
    """Return the usable nodes of a cluster by group id; a group without any is not in it.

    Parameters
    ----------
    unseen_s
        Seconds after which a node that nobody has seen is passed over until it is back.
    """
    by_group: dict[tuple[int, str, bytes], list[UsableNode]] = defaultdict(list)
    async for row in queries.usable_nodes(pool, cluster=cluster, unseen_s=unseen_s):
        by_group[row["group_id"], row["token_key_id"], row["token_hash"]].append(
            UsableNode(
                row["id"],
                row["cores"],
                row["memory_mb"],
                row["alive"],
                row["reserved_for"] is not None,
                row["held"],
            )
        )
    return {group[0]: _group_nodes(*group, nodes) for group, nodes in by_group.items()}


def _group_nodes(
    group_id: int, key_id: str, hiding_key: bytes, nodes: Sequence[UsableNode]
) -> GroupNodes:
    # What waits for one that is held back since is taken from it: the digests change.
    trusted = [node for node in nodes if not node.held]
    free = [node for node in trusted if not node.kept]
    digest_of_all = _digest(trusted)
    return GroupNodes(
        group_id,
        key_id,
        hiding_key,
        tuple(node.id for node in free),
        # Nearly always none is kept, and this is done at each look, for thousands of nodes.
        digest_of_all if len(free) == len(trusted) else _digest(free),
        digest_of_all,
        sum(node.cores for node in free if node.alive),
        sum(node.memory_mb for node in free if node.alive),
        frozenset((node.cores, node.memory_mb) for node in trusted if node.alive),
        tuple(nodes),
    )


def _digest(nodes: Iterable[UsableNode]) -> str:
    # With the template, so that what an earlier release dispatched, and nodes of this one cannot
    # run, is taken back as if all nodes were others.
    described = sorted(f"{node.id}:{node.cores}:{node.memory_mb}" for node in nodes)
    text = ",".join([template(), *described])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
