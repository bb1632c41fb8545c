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
    """One node. "Used" is what its started jobs asked for, whatever they use."""

    id: UUID
    name: str
    node: NodeStanding
    cores: int
    cores_used: int
    memory_mb: int
    memory_used_mb: int
    jobs: int
    # The first hundred of so many.
    images: Sequence[str]
    image_count: int
    # Whether it finds them by the group token that is valid now.
    current_images: bool
    disk_free_mb: int | None
    disk_total_mb: int | None
    agent_version: str
    nomad_version: str | None
    joined_at: datetime
    last_seen_at: datetime
    # Since when it is held back for failures, and when it is probed next; None: it is not.
    held_at: datetime | None
    probe_at: datetime | None
    # Limits of jobs that its Docker does not enforce; None: its agent does not tell.
    unenforced: Sequence[str] | None


async def list_nodes(
    connection: Connection | Pool, group_id: int, *, limit: int, after: UUID | None = None
) -> list[NodeOverview]:
    """Return a page of the group's nodes by name, but for those that were removed.

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
