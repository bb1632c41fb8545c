"""What a node tells about itself every few seconds, and what it is told in turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from leruli_queue.nodes.standing import NodeStanding, standing_of
from leruli_queue.store.pool import Connection, Pool
from leruli_queue.store.queries import queries, rows


@dataclass(frozen=True)
class Report:
    """What a node shows of itself."""

    agent_version: str
    nomad_version: str
    images: Sequence[str]
    disk_free_mb: int | None
    disk_total_mb: int | None
    # The attempts that it has leave to start and has not ended: job id and number.
    holds: Sequence[tuple[UUID, int]]
    # What is wrong with the node itself, in a sentence: it takes no jobs until that is over.
    trouble: str | None = None
    # Limits of jobs that its Docker does not enforce; None: the agent does not tell.
    unenforced: Sequence[str] | None = None


@dataclass(frozen=True)
class Reply:
    """What a node has to know."""

    node: NodeStanding
    # Of the attempts it holds, those that are not its to run any more: to be ended, not uploaded.
    drop: Sequence[tuple[UUID, int]]
    # Those that somebody wants cancelled.
    cancel: Sequence[tuple[UUID, int]]


async def take_report(connection: Connection | Pool, node_id: UUID, report: Report) -> Reply:
    """Write a node's report down and answer how it stands.

    What it holds keeps those attempts from being given up on Nomad's word alone.
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
    to_end = await rows(
        queries.attempts_to_end(
            connection,
            node_id=node_id,
            job_ids=[job_id for job_id, _ in report.holds],
            numbers=[number for _, number in report.holds],
        )
    )
    row = await queries.standing_of_node(connection, node_id=node_id)
    return Reply(
        standing_of(row),
        drop=[(one["job_id"], one["number"]) for one in to_end if one["cancelled"] is None],
        cancel=[(one["job_id"], one["number"]) for one in to_end if one["cancelled"]],
    )
