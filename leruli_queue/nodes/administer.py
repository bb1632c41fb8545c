"""What an admin does with a node: take it out of service, bring it back, remove it.

The database decides: from the commit on the node gets no leave to start. Nomad is asked after it.
Where it does not answer, the dispatcher's fence repeats the drain, and its stopper ends what was
given up.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

import structlog

from leruli_queue.access.audit import Action, note_action
from leruli_queue.access.authenticate import User
from leruli_queue.access.authorise import authorise_user
from leruli_queue.access.roles import Call
from leruli_queue.errors import UserReportableError
from leruli_queue.jobs.attempts import AttemptId
from leruli_queue.jobs.giving_up import Loss, give_up
from leruli_queue.jobs.retries import Retries
from leruli_queue.nodes.gate import GateOf
from leruli_queue.store.pool import Connection, Lend, Pool
from leruli_queue.store.queries import queries, rows

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class NamedNode:
    """A node that an admin named."""

    id: UUID
    name: str
    # Of the Nomad cluster that it joined.
    cluster: str


async def find_node(connection: Connection | Pool, group_id: int, name: str) -> NamedNode:
    """Return the node that an admin means by its name or its id.

    Raises
    ------
    UserReportableError
        404 when the group has no such node, 409 when several have the name.
    """
    found = await rows(queries.nodes_called(connection, group_id=group_id, name=name))
    if not found:
        raise UserReportableError(
            "The group has no node of this name or id; group-nodes lists them.", status=404
        )
    if len(found) > 1:
        ids = ", ".join(str(row["id"]) for row in found)
        raise UserReportableError(
            f"{len(found)} nodes have this name; use the id of one: {ids}.", status=409
        )
    return NamedNode(**found[0])


async def drain_node(
    write: Lend, gate_of: GateOf, admin_secret: str, name: str, deadline_s: float | None
) -> NamedNode:
    """Give a node no more jobs until it is resumed, whatever it does; can be repeated.

    Parameters
    ----------
    write
        Lends a connection in a transaction, which is committed before Nomad is asked.
    deadline_s
        Seconds after which Nomad stops what runs there; None: it may end.

    Raises
    ------
    UserReportableError
        403 when the secret is not an admin's; as :func:`find_node`; 503 when the node's cluster is
        not set up.
    leruli_queue.nomad.errors.NomadError
        When Nomad does not set the deadline. The node is drained all the same.
    """
    async with write() as connection:
        admin = await authorise_user(connection, Call.GROUP_NODE_DRAIN, admin_secret)
        node = await find_node(connection, admin.group_id, name)
        await queries.drain_node(connection, node_id=node.id)
        log.info("node drained", node=str(node.id))
        await _note(connection, admin, Action.NODE_DRAINED, node)
    if deadline_s is not None:
        await gate_of(node.cluster).admission.drain_node(node.id, deadline_s)
    return node


async def resume_node(write: Lend, gate_of: GateOf, admin_secret: str, name: str) -> NamedNode:
    """Let a node have jobs again that was drained, or is held back; can be repeated.

    Parameters and errors are those of :func:`drain_node`.
    """
    async with write() as connection:
        admin = await authorise_user(connection, Call.GROUP_NODE_RESUME, admin_secret)
        node = await find_node(connection, admin.group_id, name)
        await give_jobs_again(connection, node)
        await _note(connection, admin, Action.NODE_RESUMED, node)
    await gate_of(node.cluster).admission.end_drain(node.id)
    return node


async def remove_node(
    write: Lend, admin_secret: str, name: str, retries: Retries
) -> tuple[NamedNode, int]:
    """Remove a node for good; return it and how many of its jobs were given up.

    It gets no jobs and no certificate any more, what runs on it is given up and stopped. The
    machine can join again, with both of the group's secrets, as a new node. Parameters and errors
    are those of :func:`drain_node`.
    """
    async with write() as connection:
        admin = await authorise_user(connection, Call.GROUP_NODE_REMOVE, admin_secret)
        node = await find_node(connection, admin.group_id, name)
        given_up = await remove_from_group(connection, admin.group_id, node, retries)
        await _note(connection, admin, Action.NODE_REMOVED, node)
    return node, given_up


async def give_jobs_again(connection: Connection, node: NamedNode) -> None:
    """End what keeps jobs from a node in the database; the caller has a transaction."""
    await queries.resume_node(connection, node_id=node.id)
    await queries.forgive_node(connection, node_id=node.id)
    log.info("node resumed", node=str(node.id))


async def remove_from_group(
    connection: Connection, group_id: int, node: NamedNode, retries: Retries
) -> int:
    """Remove a node in the database; return how many of its jobs were given up.

    The caller has a transaction.
    """
    # The jobs before the node, as a receipt locks them.
    await rows(queries.lock_attempts_on_node(connection, group_id=group_id, node_id=node.id))
    await queries.remove_node(connection, node_id=node.id)
    running = await rows(queries.attempts_on_node(connection, group_id=group_id, node_id=node.id))
    losses = [
        Loss(
            AttemptId(row["job_id"], row["number"]),
            "its node was removed by an admin",
            counts=False,
            later=False,
        )
        for row in running
    ]
    await give_up(connection, losses, retries)
    log.info("node removed", node=str(node.id), jobs=len(losses))
    return len(losses)


async def _note(connection: Connection, admin: User, action: Action, node: NamedNode) -> None:
    await note_action(
        connection,
        admin.group_id,
        action,
        actor_id=admin.id,
        subject=node.name,
        detail=str(node.id),
    )
