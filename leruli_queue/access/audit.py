"""The audit of a group: who did what. Entries are appended and never changed.

An entry is written in the transaction of its action. A trigger of the table refuses every change,
also by the service.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from leruli_queue.store.pool import Connection, Pool
from leruli_queue.store.queries import queries, rows


class Action(StrEnum):
    """The actions that are audited; the value is what the API answers."""

    GROUP_CREATED = "group-created"
    GROUP_DISABLED = "group-disabled"
    GROUP_ENABLED = "group-enabled"
    USER_CREATED = "user-created"
    USER_REVOKED = "user-revoked"
    COMPUTE_SECRET_ROTATED = "compute-secret-rotated"  # noqa: S105
    GROUP_TOKEN_ROTATED = "group-token-rotated"  # noqa: S105
    IMAGES_MOVED = "group-images-moved"
    CLUSTER_SET = "cluster-set"
    NODE_DRAINED = "node-drained"
    NODE_RESUMED = "node-resumed"
    NODE_REMOVED = "node-removed"
    # An admin's actions on another user's job. The service never sees the files, which are in the
    # group's own storage. So the last two say what the admin asked the bucket's name for.
    JOB_CANCELLED = "job-cancelled"
    JOB_FETCHED = "job-fetched"
    JOB_PURGED = "job-purged"


@dataclass(frozen=True)
class Entry:
    """One action. ``actor`` None stands for the operator of the service."""

    id: int
    at: datetime
    actor: str | None
    action: Action
    subject: str | None
    detail: str | None


async def note_action(
    connection: Connection,
    group_id: int,
    action: Action,
    *,
    actor_id: int | None,
    subject: str | None = None,
    detail: str | None = None,
) -> None:
    """Append an entry. Call it in the transaction of the action, so that both commit or neither."""
    await queries.insert_audit_entry(
        connection,
        group_id=group_id,
        actor_id=actor_id,
        action=action,
        subject=subject,
        detail=detail,
    )


async def audit_page(
    connection: Connection | Pool,
    group_id: int,
    *,
    actions: Sequence[Action],
    since: datetime | None,
    until: datetime | None,
    before_id: int | None,
    limit: int,
) -> list[Entry]:
    """Return the newest entries of a group, or the newest before an entry's id.

    ``since`` is included, ``until`` is not included.
    """
    found = await rows(
        queries.audit_page(
            connection,
            group_id=group_id,
            actions=list(actions),
            since=since,
            until=until,
            before_id=before_id,
            limit=limit,
        )
    )
    return [Entry(**(dict(row) | {"action": Action(row["action"])})) for row in found]
