"""A machine joins its group as a node, and leaves it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol
from uuid import UUID, uuid4

import structlog

from leruli_queue.access import sealing
from leruli_queue.access.authenticate import Group, Node, rotated_for_machines
from leruli_queue.access.secrets import SecretType, make
from leruli_queue.errors import UserReportableError
from leruli_queue.naming import pool_name
from leruli_queue.nodes.certificates import NodeSigner
from leruli_queue.nodes.join_limits import JoinLimits
from leruli_queue.nodes.standing import Standing, standing_of
from leruli_queue.store.pool import Connection, Lend, Pool
from leruli_queue.store.queries import queries

log = structlog.get_logger(__name__)


class NodeAdmission(Protocol):
    """What joining needs of the cluster manager (``leruli_queue.nomad.gateway`` has it)."""

    async def admit_node(self, node_id: UUID, pool: str) -> str:
        """Make sure of the pool and return a token to register with."""

    async def drain_node(self, node_id: UUID, deadline_s: float) -> None:
        """Place nothing more on the node and stop what is left there after the deadline."""

    async def end_drain(self, node_id: UUID) -> None:
        """Let the node take jobs again, if it is known."""


@dataclass(frozen=True)
class Gate:
    """A cluster, as far as nodes are let into it."""

    name: str
    admission: NodeAdmission
    signer: NodeSigner


@dataclass(frozen=True)
class Machine:
    """What a machine says of itself."""

    name: str
    cores: int
    memory_mb: int
    agent_version: str
    # For a certificate; made with a key that does not leave the machine. PEM.
    signing_request: str


@dataclass(frozen=True)
class Admission:
    """What a machine gets to become a node."""

    node_id: UUID
    node_token: str
    pool: str
    introduction_token: str
    # For its Nomad client, PEM.
    certificate: str


async def join_node(
    lend: Lend,
    gate: Gate,
    group: Group,
    machine: Machine,
    earlier_id: UUID | None,
    limits: JoinLimits,
) -> Admission:
    """Make a machine a node of the group, or let an earlier one come back.

    The node's earlier token ends. An earlier id that is not one of the group's nodes, or of one
    that an admin removed, gets a new one, so that nobody learns whether another group has a node of
    that id. The caller has authenticated the group.

    Parameters
    ----------
    lend
        Lends a connection. None is kept while Nomad is asked, which may take as long as it likes.

    Raises
    ------
    UserReportableError
        422 when the machine's signing request cannot be used; 403 when the group token was rotated
        meanwhile; 503 when the group has too many nodes; and what ``lend`` raises.
    """
    async with lend() as connection:
        earlier = await queries.earlier_node(connection, node_id=earlier_id, group_id=group.id)
        if earlier is None:
            await limits.make_room(connection, group.id)
    node_id = uuid4() if earlier is None else earlier["id"]
    certificate = gate.signer.sign(machine.signing_request, node_id)
    pool = pool_name(group.key_id)
    # Nomad first: a node in the database that Nomad does not let in would never start anything.
    introduction = await gate.admission.admit_node(node_id, pool)
    if earlier is not None and not earlier["drained"]:
        # One that left is draining or ineligible.
        await gate.admission.end_drain(node_id)
    token = make(SecretType.NODE)
    async with lend() as connection, connection.transaction():
        await _hold_group_token(connection, group)
        known = await queries.upsert_node(
            connection,
            id=node_id,
            group_id=group.id,
            cluster=gate.name,
            name=machine.name,
            key_id=token.key_id,
            token_hash=token.hash,
            epoch=group.epoch,
            cores=machine.cores,
            memory_mb=machine.memory_mb,
            agent_version=machine.agent_version,
        )
        await queries.note_joined_with(
            connection,
            node_id=node_id,
            public_key=sealing.public_key(token),
            token_key_id=group.token_key_id,
        )
    if known is None:  # removed by an admin in between
        return await join_node(lend, gate, group, machine, None, limits)
    log.info("node joined", node=str(node_id), name=machine.name, cores=machine.cores)
    return Admission(node_id, token.text, pool, introduction, certificate)


async def _hold_group_token(connection: Connection, group: Group) -> None:
    """Keep the group token from being rotated until the transaction ends.

    A node that is not there yet when a rotation tells all nodes would never be told.
    """
    await queries.hold_group_tokens(connection, group_id=group.id)
    # In a statement of its own: it sees what was committed while the one before waited.
    valid = await queries.valid_token_key_id(connection, group_id=group.id)
    if valid != group.token_key_id:
        raise rotated_for_machines(group.token_key_id, "this moment")


async def leave_node(lend: Lend, cluster: NodeAdmission, node: Node, deadline_s: float) -> int:
    """Take a node out of service and return how many attempts are still on it; can be repeated.

    Parameters
    ----------
    lend
        As for :func:`join_node`.
    deadline_s
        Seconds after which Nomad stops what still runs there.
    """
    async with lend() as connection:
        running: int = await queries.node_leaves(connection, node_id=node.id)
    await cluster.drain_node(node.id, deadline_s)
    return running


async def renew_certificate(
    connection: Connection | Pool, signer: NodeSigner, node: Node, request: str
) -> str:
    """Sign a new certificate for a node that may go on: of the current secret, and not removed.

    Raises
    ------
    UserReportableError
        403 when the node joined with a secret, or in a cluster, that is not the group's any more;
        422 when the signing request cannot be used.
    """
    row = await queries.standing_of_node(connection, node_id=node.id)
    standing = standing_of(row)
    if standing.standing in (Standing.OUTDATED, Standing.REMOVED):
        raise UserReportableError(
            f"This node gets no new certificate: {standing.reason}.", status=403
        )
    return signer.sign(request, node.id)
