"""What a person is told about a job."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from leruli_queue.access.authenticate import User
from leruli_queue.errors import UserReportableError
from leruli_queue.jobs.reasons import living_capacity, reason_of
from leruli_queue.jobs.states import JobState
from leruli_queue.store.pool import Connection, Pool
from leruli_queue.store.queries import queries


@dataclass(frozen=True)
class Status:
    """A job's state and, where that does not say it all, a sentence."""

    state: JobState
    reason: str | None


class UnknownJobError(UserReportableError):
    """No such job, or not one that this user may see: the two are never told apart."""

    def __init__(self) -> None:
        super().__init__(
            "There is no such job, or it is not yours. Check the job id (leruli.job).", status=404
        )


def parse_job_id(text: str) -> UUID:
    """Read a job id.

    Raises
    ------
    UnknownJobError
        For a text that cannot be one: nothing has that id.
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
    row = await queries.job_status(
        connection, job_id=job_id, group_id=user.group_id, owner_id=user.owner_id
    )
    if row is None:
        raise UnknownJobError
    state = JobState(row["state"])
    capacity = None
    if state is JobState.RECEIVED:
        capacity = await living_capacity(connection, user.group_id)
    return Status(state, reason_of(row, capacity))
