"""The nodes of a group, as people see them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from leruli_queue.nodes.standing import NodeStanding, standing_of
from leruli_queue.store.pool import Connection, Pool
from leruli_queue.store.queries import queries, rows


@dataclass(frozen=True)
class NodeOverview:
    """One node. "Used" means the resources of its started jobs, not what they really use."""

    id: UUID
    name: str
    node: NodeStanding
    cores: int
    cores_used: int
    memory_mb: int
    memory_used_mb: int
    jobs: int
    # The first hundred of image_count.
    images: Sequence[str]
    image_count: int
    # Whether the node finds images by the valid group token.
    current_images: bool
    disk_free_mb: int | None
    disk_total_mb: int | None
    agent_version: str
    nomad_version: str | None
    joined_at: datetime
    last_seen_at: datetime
    # Begin of its quarantine and time of its next probe; None while it is not in quarantine.
    held_at: datetime | None
    probe_at: datetime | None
    # Limits of jobs that its Docker does not enforce; None: its agent does not report them.
    unenforced: Sequence[str] | None


async def list_nodes(
    connection: Connection | Pool, group_id: int, *, limit: int, after: UUID | None = None
) -> list[NodeOverview]:
    """Return a page of the group's nodes by name, without removed nodes.

    Parameters
    ----------
    after
        The last node of the page before.
    """
    found = await rows(
        queries.nodes_of_group(connection, group_id=group_id, limit=limit, after=after)
    )
    return [_overview(row) for row in found]


def _overview(row: Any) -> NodeOverview:
    same = (
        "id",
        "name",
        "cores",
        "cores_used",
        "memory_mb",
        "memory_used_mb",
        "jobs",
        "images",
        "image_count",
        "current_images",
        "disk_free_mb",
        "disk_total_mb",
        "agent_version",
        "nomad_version",
        "joined_at",
        "last_seen_at",
        "held_at",
        "probe_at",
        "unenforced",
    )
    return NodeOverview(node=standing_of(row), **{name: row[name] for name in same})
