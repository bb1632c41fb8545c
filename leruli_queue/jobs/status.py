"""The status of jobs: state and reason, as people see them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from uuid import UUID

from leruli_queue.access.authenticate import User
from leruli_queue.errors import UserReportableError
from leruli_queue.jobs.reasons import asks_for_capacity, living_capacity, reason_of, turn_reason
from leruli_queue.jobs.states import JobState
from leruli_queue.store.pool import Connection, Pool
from leruli_queue.store.queries import queries, rows

# Jobs ahead of a job are counted up to this number.
_MOST_AHEAD = 1000


@dataclass(frozen=True)
class Status:
    """A job's state, and its reason where the state needs one."""

    state: JobState
    reason: str | None


class UnknownJobError(UserReportableError):
    """No such job, or a job that this user may not see. The answer is the same for both."""

    def __init__(self) -> None:
        super().__init__(
            "There is no such job, or it is not yours. Check the job id (leruli.job).", status=404
        )


def parse_job_id(text: str) -> UUID:
    """Read a job id.

    Raises
    ------
    UnknownJobError
        When the text cannot be a job id: then no job has it.
    """
    try:
        return UUID(text)
    except ValueError:
        raise UnknownJobError from None


async def job_status(connection: Connection | Pool, user: User, job_id: UUID) -> Status:
    """Return the status of a job that the user may touch.

    Raises
    ------
    UnknownJobError
        For an unknown job and for other people's alike.
    """
    status = known(await job_statuses(connection, user, [job_id]), job_id)
    if status.state is JobState.RECEIVED and status.reason is None:
        return replace(status, reason=await why_its_turn(connection, job_id))
    return status


async def why_its_turn(connection: Connection | Pool, job_id: UUID) -> str:
    """Return the sentence for a job that only waits for its turn.

    Not for many jobs at once: each call counts up to a thousand other jobs.
    """
    ahead = await queries.count_ahead(connection, job_id=job_id, most=_MOST_AHEAD + 1)
    return turn_reason(ahead, most=_MOST_AHEAD)


async def job_statuses(
    connection: Connection | Pool, user: User, job_ids: Collection[UUID]
) -> dict[UUID, Status]:
    """Return the status of each job that the user may touch; other ids are missing."""
    found = await rows(
        queries.job_statuses(
            connection, job_ids=list(job_ids), group_id=user.group_id, owner_id=user.owner_id
        )
    )
    capacity = None
    if asks_for_capacity(found):
        capacity = await living_capacity(connection, user.group_id)
    return {row["id"]: Status(JobState(row["state"]), reason_of(row, capacity)) for row in found}


def known(found: Mapping[UUID, Status], job_id: UUID) -> Status:
    """Return the status of a job from those that were found.

    Raises
    ------
    UnknownJobError
        When the job is not among them.
    """
    if job_id not in found:
        raise UnknownJobError
    return found[job_id]
