"""Follow a job: its node sends the job's output to the bucket while somebody reads it there."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from leruli_queue.access.authenticate import User
from leruli_queue.jobs.status import Status, UnknownJobError, job_status
from leruli_queue.store.pool import Connection, Pool
from leruli_queue.store.queries import queries

FOLLOWED_FOR_S = 30.0
"""Seconds for which a job is followed after a call. Followers call every 10 seconds."""


@dataclass(frozen=True)
class Followed:
    """A job that is followed, unless it is over."""

    status: Status
    # The number of its current attempt, 0 before the first.
    attempt: int


async def follow_job(connection: Connection, user: User, job_id: UUID) -> Followed:
    """Follow a job that the user may touch; nothing changes for a job that is over.

    Raises
    ------
    UnknownJobError
        For an unknown job and for other people's alike.
    """
    # Read first: if the job is over, the number read afterwards is that of its last attempt.
    status = await job_status(connection, user, job_id)
    row = await queries.follow_job(
        connection,
        job_id=job_id,
        group_id=user.group_id,
        owner_id=user.owner_id,
        for_s=FOLLOWED_FOR_S,
    )
    if row is None:
        raise UnknownJobError
    return Followed(status, row["attempt"])


async def delete_old_follows(pool: Pool) -> None:
    """Delete the rows of jobs that nobody follows any more."""
    await queries.delete_follows(pool)
