"""The node report: a node's state every few seconds, and the answer to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from leruli_queue.nodes.standing import NodeStanding, standing_of
from leruli_queue.store.pool import Connection, Pool
from leruli_queue.store.queries import queries, rows


@dataclass(frozen=True)
class Report:
    """A node's report about itself."""

    agent_version: str
    nomad_version: str
    images: Sequence[str]
    disk_free_mb: int | None
    disk_total_mb: int | None
    # Attempts with a start grant that have not ended: job id and number.
    holds: Sequence[tuple[UUID, int]]
    # A fault of the node itself, in a sentence. The node takes no jobs while there is one.
    trouble: str | None = None
    # Limits of jobs that its Docker does not enforce; None: the agent does not report them.
    unenforced: Sequence[str] | None = None


@dataclass(frozen=True)
class Reply:
    """The answer to a node's report."""

    node: NodeStanding
    # Held attempts that the node may not run any more. It ends them without an upload.
    drop: Sequence[tuple[UUID, int]]
    # Held attempts whose cancellation was requested.
    cancel: Sequence[tuple[UUID, int]]
    # Attempts on the node whose output is followed.
    follow: Sequence[tuple[UUID, int]]


NODE_NEWS = "leruli_node"
"""The channel of PostgreSQL whose payload is the id of a node that has to be told something."""


async def take_report(connection: Connection | Pool, node_id: UUID, report: Report) -> None:
    """Store a node's report.

    An attempt that the node reports as held is not abandoned on Nomad's word alone.
    """
    await queries.note_report(
        connection,
        node_id=node_id,
        agent_version=report.agent_version,
        nomad_version=report.nomad_version,
        images=list(report.images),
        disk_free_mb=report.disk_free_mb,
        disk_total_mb=report.disk_total_mb,
        holds=[f"{job_id}x{number}" for job_id, number in report.holds],
        trouble=report.trouble,
        unenforced=None if report.unenforced is None else list(report.unenforced),
    )


async def reply_to(
    connection: Connection | Pool,
    node_id: UUID,
    holds: Sequence[tuple[UUID, int]],
    *,
    unreported: bool,
) -> Reply:
    """Return a node's standing, and the attempts that it must end and that are followed.

    Parameters
    ----------
    holds
        The attempts that the node reports.
    unreported
        Whether to name cancelled attempts on the node that are not among them.
    """
    to_end = await rows(
        queries.attempts_to_end(
            connection,
            node_id=node_id,
            job_ids=[job_id for job_id, _ in holds],
            numbers=[number for _, number in holds],
            unreported=unreported,
        )
    )
    followed = await rows(queries.followed_on_node(connection, node_id=node_id))
    row = await queries.standing_of_node(connection, node_id=node_id)
    return Reply(
        standing_of(row),
        drop=sorted((one["job_id"], one["number"]) for one in to_end if one["cancelled"] is None),
        cancel=sorted((one["job_id"], one["number"]) for one in to_end if one["cancelled"]),
        follow=[(one["job_id"], one["number"]) for one in followed],
    )
