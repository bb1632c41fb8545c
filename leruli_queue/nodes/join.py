"""A machine joins its group as a node, and leaves it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol
from uuid import UUID, uuid4

import structlog

from leruli_queue.access.authenticate import Group, Node
from leruli_queue.access.secrets import SecretType, make
from leruli_queue.nodes.pools import pool_name
from leruli_queue.store.pool import Connection, Pool
from leruli_queue.store.queries import queries

log = structlog.get_logger(__name__)


class NodeAdmission(Protocol):
    """What joining needs of the cluster manager (``leruli_queue.nomad.gateway`` has it)."""

    async def admit_node(self, node_id: UUID, pool: str) -> str:
        """Make sure of the pool, let the node take jobs, return a token to register with."""

    async def drain_node(self, node_id: UUID, deadline_s: float) -> None:
        """Place nothing more on the node and stop what is left there after the deadline."""


@dataclass(frozen=True)
class Machine:
    """What a machine says of itself."""

    name: str
    cores: int
    memory_mb: int
    agent_version: str


@dataclass(frozen=True)
class Admission:
    """What a machine gets to become a node."""

    node_id: UUID
    node_token: str
    pool: str
    introduction_token: str


async def join_node(
    connection: Connection | Pool,
    cluster: NodeAdmission,
    group: Group,
    machine: Machine,
    earlier_id: UUID | None,
) -> Admission:
    """Make a machine a node of the group, or let an earlier one come back.

    The node's earlier token ends. An earlier id that is not one of the group's nodes gets a new
    one, so that nobody learns whether another group has a node of that id. The caller has
    authenticated the group.
    """
    node_id = earlier_id or uuid4()
    if earlier_id is not None and not await queries.group_has_node(
        connection, node_id=earlier_id, group_id=group.id
    ):
        node_id = uuid4()
    pool = pool_name(group.key_id)
    # Nomad first: a node in the database that Nomad does not let in would never start anything.
    introduction = await cluster.admit_node(node_id, pool)
    token = make(SecretType.NODE)
    await queries.upsert_node(
        connection,
        id=node_id,
        group_id=group.id,
        name=machine.name,
        key_id=token.key_id,
        token_hash=token.hash,
        epoch=group.epoch,
        cores=machine.cores,
        memory_mb=machine.memory_mb,
        agent_version=machine.agent_version,
    )
    log.info("node joined", node=str(node_id), name=machine.name, cores=machine.cores)
    return Admission(node_id, token.text, pool, introduction)


async def leave_node(
    connection: Connection | Pool, cluster: NodeAdmission, node: Node, deadline_s: float
) -> int:
    """Take a node out of service and return how many attempts are still on it; can be repeated.

    Parameters
    ----------
    deadline_s
        Seconds after which Nomad stops what still runs there.
    """
    running: int = await queries.node_leaves(connection, node_id=node.id)
    await cluster.drain_node(node.id, deadline_s)
    return running
