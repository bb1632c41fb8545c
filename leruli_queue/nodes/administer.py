"""Drain, resume and remove a node, for an admin.

The database decides: from the commit on, the node gets no start grant. Nomad is called after the
commit. If Nomad does not answer, the dispatcher's fence repeats the drain, and its stopper ends the
abandoned attempts.
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
from leruli_queue.jobs.abandon import Abandonment, abandon
from leruli_queue.jobs.attempts import AttemptId
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
    # Name of the Nomad cluster that the node joined.
    cluster: str


async def find_node(connection: Connection | Pool, group_id: int, name: str) -> NamedNode:
    """Return the node with this name or id.

    Raises
    ------
    UserReportableError
        404 when the group has no such node, 409 when several have the name.
    """
    found = await rows(queries.nodes_by_name_or_id(connection, group_id=group_id, name=name))
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
    """Drain a node: it gets no more jobs until it is resumed. Can be repeated.

    Parameters
    ----------
    write
        Lends a connection in a transaction, which is committed before Nomad is called.
    deadline_s
        Time in s after which Nomad stops the node's jobs. None: they may run to their end.

    Raises
    ------
    UserReportableError
        403 when the secret is not an admin's; the errors of :func:`find_node`; 503 when the node's
        cluster is not set up.
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
    """Give jobs again to a node that was drained or is in quarantine. Can be repeated.

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
    """Remove a node for good; return it, and the number of its abandoned attempts.

    The node gets no jobs and no certificate any more. Its attempts are abandoned and stopped. The
    machine can join again as a new node, with both of the group's secrets. Parameters and errors
    are those of :func:`drain_node`.
    """
    async with write() as connection:
        admin = await authorise_user(connection, Call.GROUP_NODE_REMOVE, admin_secret)
        node = await find_node(connection, admin.group_id, name)
        abandoned = await remove_from_group(connection, admin.group_id, node, retries)
        await _note(connection, admin, Action.NODE_REMOVED, node)
    return node, abandoned


async def give_jobs_again(connection: Connection, node: NamedNode) -> None:
    """End drain and quarantine of a node in the database. The caller has a transaction."""
    await queries.resume_node(connection, node_id=node.id)
    await queries.forgive_node(connection, node_id=node.id)
    log.info("node resumed", node=str(node.id))


async def remove_from_group(
    connection: Connection, group_id: int, node: NamedNode, retries: Retries
) -> int:
    """Remove a node in the database; return the number of its abandoned attempts.

    The caller has a transaction.
    """
    # Lock the jobs before the node, in the order in which a receipt locks them.
    await rows(queries.lock_attempts_on_node(connection, group_id=group_id, node_id=node.id))
    await queries.remove_node(connection, node_id=node.id)
    running = await rows(queries.attempts_on_node(connection, group_id=group_id, node_id=node.id))
    abandonments = [
        Abandonment(
            AttemptId(row["job_id"], row["number"]),
            "its node was removed by an admin",
            counts=False,
            later=False,
        )
        for row in running
    ]
    await abandon(connection, abandonments, retries)
    log.info("node removed", node=str(node.id), jobs=len(abandonments))
    return len(abandonments)


async def _note(connection: Connection, admin: User, action: Action, node: NamedNode) -> None:
    await note_action(
        connection,
        admin.group_id,
        action,
        actor_id=admin.id,
        subject=node.name,
        detail=str(node.id),
    )
