"""The nodes that each group's jobs may be placed on, read from the database."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID

from leruli_queue.jobs.resources import Resources, any_fits, memory_steps
from leruli_queue.nomad.templates import template
from leruli_queue.store.pool import Pool
from leruli_queue.store.queries import queries


@dataclass(frozen=True)
class GroupNodes:
    """A group and the nodes that may start its jobs, without reserved and held ones.

    Reserved nodes: :mod:`leruli_queue.dispatch.reservations`. Held nodes get no job but probes:
    they are in quarantine (:mod:`leruli_queue.jobs.quarantine`) or their agent reports trouble.
    """

    group_id: int
    group_key_id: str
    # See leruli_queue.naming.hidden.
    hiding_key: bytes = field(repr=False)
    node_ids: tuple[UUID, ...]
    # Changes whenever a node joins, leaves, is reserved or released, or comes back with another
    # size; and with the template of parent jobs.
    digest: str
    # The digest of all nodes, reserved ones included.
    digest_of_all: str
    # Sums over the living nodes.
    cores: int
    memory_mb: int
    # The size of each living node, reserved ones included.
    sizes: frozenset[Resources]
    # All nodes, reserved and held ones included.
    nodes: tuple[UsableNode, ...] = field(repr=False)
    # Whether these are only some of the group's nodes, chosen for some jobs.
    is_subset: bool = False

    def without(self, avoided: Container[UUID], cores: int, memory_mb: int) -> GroupNodes:
        """Return the nodes except the avoided ones.

        Return all nodes if no other living node fits a job of these cores and MB.
        """
        rest = [node for node in self.nodes if node.id not in avoided]
        able = (node for node in rest if node.alive and not (node.reserved or node.held))
        if len(rest) == len(self.nodes) or not any_fits(
            ((node.cores, node.memory_mb) for node in able), cores, memory_mb
        ):
            return self
        return replace(self._of(rest), is_subset=True)

    def only(self, node_id: UUID) -> GroupNodes | None:
        """Return one node, held or not; None if it is no longer the group's."""
        [*found] = (replace(node, held=False) for node in self.nodes if node.id == node_id)
        return replace(self._of(found), is_subset=True) if found else None

    def _of(self, nodes: Sequence[UsableNode]) -> GroupNodes:
        return _group_nodes(self.group_id, self.group_key_id, self.hiding_key, nodes)

    @property
    def memory_steps(self) -> tuple[int, ...]:
        """The amounts of memory (MB) that Nomad is asked for, see :func:`memory_steps`."""
        # Held nodes count too: a job may be sent to one as a probe.
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
    reserved: bool
    # It gets no job but probes.
    held: bool


async def usable_nodes(
    pool: Pool, cluster: str, unseen_s: float = 86_400.0
) -> dict[int, GroupNodes]:
    """Return the usable nodes of a cluster by group id, without groups that have none.

    Parameters
    ----------
    unseen_s
        Seconds without a sign of life after which a node is passed over, until it is back.
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
    # Unplaced attempts must not wait for a node that is held since: the digests leave it out.
    trusted = [node for node in nodes if not node.held]
    free = [node for node in trusted if not node.reserved]
    digest_of_all = _digest(trusted)
    return GroupNodes(
        group_id,
        key_id,
        hiding_key,
        tuple(node.id for node in free),
        # Nearly always none is reserved, and each poll computes this for thousands of nodes.
        digest_of_all if len(free) == len(trusted) else _digest(free),
        digest_of_all,
        sum(node.cores for node in free if node.alive),
        sum(node.memory_mb for node in free if node.alive),
        frozenset((node.cores, node.memory_mb) for node in trusted if node.alive),
        tuple(nodes),
    )


def _digest(nodes: Iterable[UsableNode]) -> str:
    # The template is part of it. So attempts that an earlier release dispatched, which nodes of
    # this release cannot run, are requeued as if all nodes had changed.
    described = sorted(f"{node.id}:{node.cores}:{node.memory_mb}" for node in nodes)
    text = ",".join([template(), *described])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
