"""What an admin does with a node: take it out of service, bring it back, remove it.

The database is told, and that is what counts: leave to start is refused from then on. The
dispatcher's fence brings Nomad to the same mind, its stopper ends there what was given up.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

import structlog

from leruli_queue.errors import UserReportableError
from leruli_queue.jobs.attempts import AttemptId
from leruli_queue.jobs.giving_up import Loss, give_up
from leruli_queue.jobs.retries import Retries
from leruli_queue.store.pool import Connection, Pool
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


async def drain_node(connection: Connection, node: NamedNode) -> None:
    """Give the node no more jobs until it is resumed, whatever it does; can be repeated."""
    await queries.drain_node(connection, node_id=node.id)
    log.info("node drained", node=str(node.id))


async def resume_node(connection: Connection, node: NamedNode) -> None:
    """Let a node have jobs again that was drained, or is held back; can be repeated."""
    await queries.resume_node(connection, node_id=node.id)
    await queries.forgive_node(connection, node_id=node.id)
    log.info("node resumed", node=str(node.id))


async def remove_node(
    connection: Connection, group_id: int, node: NamedNode, retries: Retries
) -> int:
    """Remove a node for good and return how many of its jobs were given up.

    It gets no jobs and no certificate any more, what runs on it is given up and stopped. The
    machine can join again, with both of the group's secrets, as a new node. The caller has a
    transaction.
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
