"""Let a machine join its group as a node, renew its certificate, and let it leave."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID, uuid4

import structlog

from leruli_queue.access import sealing
from leruli_queue.access.authenticate import Group, Node, rotated_for_machines
from leruli_queue.access.secrets import Secret, SecretType, make
from leruli_queue.errors import UserReportableError
from leruli_queue.groups.group_token import image_tokens
from leruli_queue.naming import image_prefix, pool_name
from leruli_queue.nodes.certificates import NodeSigner
from leruli_queue.nodes.gate import Gate, GateOf
from leruli_queue.nodes.join_limits import JoinLimits
from leruli_queue.nodes.standing import Standing, standing_of
from leruli_queue.store.pool import Connection, Lend, Pool
from leruli_queue.store.queries import queries

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Machine:
    """A machine, as it describes itself."""

    name: str
    cores: int
    memory_mb: int
    agent_version: str
    # PEM. Signed with a key that never leaves the machine.
    signing_request: str


@dataclass(frozen=True)
class Certificate:
    """A certificate for a node's Nomad client."""

    # PEM.
    text: str
    signer: NodeSigner


@dataclass(frozen=True)
class Admission:
    """All that a machine needs to become a node."""

    node_id: UUID
    node_token: str
    # Names of its Nomad cluster, and of its group's node pool there.
    cluster: str
    pool: str
    introduction_token: str
    certificate: Certificate
    # See ``leruli_queue.naming``.
    image_prefix: str
    # Tokens of the buckets with images, the newest first.
    image_tokens: list[str]


async def join_node(
    lend: Lend,
    gate_of: GateOf,
    limits: JoinLimits,
    group: Group,
    group_token: str,
    machine: Machine,
    earlier_id: UUID | None,
) -> Admission:
    """Make a machine a node of the group, or let an earlier node join again.

    The node's earlier token ends. If the earlier id is not of the group's nodes, or of a node that
    an admin removed, the machine gets a new id. So nobody learns whether another group has a node
    of that id. The caller has authenticated the group.

    Parameters
    ----------
    lend
        Lends a connection. None is held during the calls to Nomad, whose time has no limit here.
    group_token
        The text of the token with which the group was authenticated.

    Raises
    ------
    UserReportableError
        422 when the machine's signing request cannot be used; 403 when the group token was rotated
        meanwhile; 503 when machines of the group join too often, the group has too many nodes or
        its cluster is not set up; and the errors of ``lend``.
    leruli_queue.nomad.errors.NomadError
        When Nomad does not admit the node.
    """
    limits.take(group.id)
    async with lend() as connection:
        gate = gate_of(await queries.cluster_of_group(connection, group_id=group.id))
    admitted = None
    while admitted is None:
        admitted = await _admit(lend, gate, limits, group, machine, earlier_id)
        earlier_id = None  # an admin removed the earlier node meanwhile
    node_id, node_token, certificate, introduction = admitted
    async with lend() as connection:
        tokens = await image_tokens(connection, group.id, group_token)
    return Admission(
        node_id,
        node_token,
        gate.name,
        pool_name(group.key_id),
        introduction,
        Certificate(certificate, gate.signer),
        image_prefix(group.key_id),
        tokens,
    )


async def _admit(
    lend: Lend,
    gate: Gate,
    limits: JoinLimits,
    group: Group,
    machine: Machine,
    earlier_id: UUID | None,
) -> tuple[UUID, str, str, str] | None:
    """Admit the machine to Nomad and store it as a node.

    Returns
    -------
    tuple of UUID, str, str and str, or None
        Id, node token, certificate and introduction token. None when an admin removed the earlier
        node meanwhile.
    """
    async with lend() as connection:
        earlier = await queries.earlier_node(connection, node_id=earlier_id, group_id=group.id)
        if earlier is None:
            await limits.check_capacity(connection, group.id)
    node_id = uuid4() if earlier is None else earlier["id"]
    certificate = gate.signer.sign(machine.signing_request, node_id)
    # Nomad first: if Nomad does not admit the node, a row in the database would be of no use.
    introduction = await gate.admission.admit_node(node_id, pool_name(group.key_id))
    if earlier is not None and not earlier["drained"]:
        # A node that left is draining or ineligible in Nomad.
        await gate.admission.end_drain(node_id)
    token = make(SecretType.NODE)
    async with lend() as connection, connection.transaction():
        known = await _store_node(connection, gate.name, group, machine, node_id, token)
    if not known:
        return None
    log.info("node joined", node=str(node_id), name=machine.name, cores=machine.cores)
    return node_id, token.text, certificate, introduction


async def _store_node(
    connection: Connection,
    cluster: str,
    group: Group,
    machine: Machine,
    node_id: UUID,
    token: Secret,
) -> bool:
    """Store the node; return False if an admin has removed it."""
    await _hold_group_token(connection, group)
    known = await queries.upsert_node(
        connection,
        id=node_id,
        group_id=group.id,
        cluster=cluster,
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
    return known is not None


async def _hold_group_token(connection: Connection, group: Group) -> None:
    """Lock the group token against rotation until the transaction ends.

    A rotation seals the new token for all stored nodes. A node that is stored after it would never
    get the new token.
    """
    await queries.hold_group_tokens(connection, group_id=group.id)
    # A separate statement: it sees what was committed while the one above waited.
    valid = await queries.valid_token_key_id(connection, group_id=group.id)
    if valid != group.token_key_id:
        raise rotated_for_machines(group.token_key_id, "this moment")


async def leave_node(lend: Lend, gate_of: GateOf, node: Node, deadline_s: float) -> int:
    """Take a node out of service; return the number of its attempts. Can be repeated.

    Parameters
    ----------
    lend
        As for :func:`join_node`.
    deadline_s
        Time in s after which Nomad stops the attempts that still run.

    Raises
    ------
    UserReportableError
        503 when the node's cluster is not set up.
    leruli_queue.nomad.errors.NomadError
        When Nomad does not drain the node.
    """
    async with lend() as connection:
        gate = gate_of(await queries.cluster_of_node(connection, node_id=node.id))
        running: int = await queries.node_leaves(connection, node_id=node.id)
    await gate.admission.drain_node(node.id, deadline_s)
    return running


async def renew_certificate(
    connection: Connection | Pool, gate_of: GateOf, node: Node, request: str
) -> Certificate:
    """Sign a new certificate for a node that is neither outdated nor removed.

    Raises
    ------
    UserReportableError
        403 when the node was removed, or the group's compute secret or cluster changed since it
        joined; 422 when the signing request cannot be used; 503 when the node's cluster is not set
        up.
    """
    signer = gate_of(await queries.cluster_of_node(connection, node_id=node.id)).signer
    standing = standing_of(await queries.standing_of_node(connection, node_id=node.id))
    if standing.standing in (Standing.OUTDATED, Standing.REMOVED):
        raise UserReportableError(
            f"This node gets no new certificate: {standing.reason}.", status=403
        )
    return Certificate(signer.sign(request, node.id), signer)
