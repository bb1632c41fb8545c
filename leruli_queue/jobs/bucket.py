"""Find the bucket of a job, and the jobs of buckets."""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum
from uuid import UUID

from leruli_queue.access.audit import Action, note_action
from leruli_queue.access.authenticate import User
from leruli_queue.jobs.status import UnknownJobError
from leruli_queue.store.pool import Connection
from leruli_queue.store.queries import queries, rows


class Purpose(StrEnum):
    """What a bucket is asked for. The service cannot verify it."""

    GET = "get"
    PURGE = "purge"


_ACTIONS = {Purpose.GET: Action.JOB_FETCHED, Purpose.PURGE: Action.JOB_PURGED}


async def job_bucket(connection: Connection, user: User, job_id: UUID, purpose: Purpose) -> str:
    """Return the bucket of a job that the user may touch. Another user's job is audited.

    Raises
    ------
    UnknownJobError
        For an unknown job and for other people's alike.
    """
    row = await queries.job_bucket(
        connection, job_id=job_id, group_id=user.group_id, owner_id=user.owner_id
    )
    if row is None:
        raise UnknownJobError
    if row["user_id"] != user.id:
        await note_action(
            connection, user.group_id, _ACTIONS[purpose], actor_id=user.id, subject=str(job_id)
        )
    return str(row["bucket"])


async def jobs_of_buckets(
    connection: Connection, user: User, buckets: Collection[str]
) -> dict[str, UUID]:
    """Return the jobs of these buckets that the user may touch, by bucket."""
    found = await rows(
        queries.jobs_of_buckets(
            connection, buckets=list(buckets), group_id=user.group_id, owner_id=user.owner_id
        )
    )
    return {row["bucket"]: row["id"] for row in found}
