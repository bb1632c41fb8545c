"""What a person is told about a job."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from leruli_queue.access.authenticate import User
from leruli_queue.errors import UserReportableError
from leruli_queue.jobs.states import FINAL, JobState
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
    """Return the status of one of the user's jobs; an admin may ask for any job of the group.

    Raises
    ------
    UnknownJobError
        For an unknown job and for other people's alike.
    """
    row = await queries.job_status(
        connection,
        job_id=job_id,
        group_id=user.group_id,
        user_id=None if user.is_admin else user.id,
    )
    if row is None:
        raise UnknownJobError
    state = JobState(row["state"])
    return Status(state, _reason(state, row))


def _reason(state: JobState, row: dict[str, object]) -> str | None:
    if row["cancel_requested_at"] is not None and state not in FINAL:
        return "cancellation was requested; it is being stopped"
    if state is JobState.RECEIVED and row["nodes"] == 0:
        return "waiting for a node: no machine of the group is connected"
    if state is JobState.RECEIVED and not row["fits"]:
        return (
            f"waiting for a node with {_size(row['cores'], row['memory_mb'])}; "
            f"the largest has {_size(row['largest_cores'], row['largest_memory_mb'])}"
        )
    if state is JobState.SUBMITTED and row["waiting_reason"]:
        return str(row["waiting_reason"])
    return None if row["reason"] is None else str(row["reason"])


def _size(cores: object, memory_mb: object) -> str:
    return f"{cores} core{'' if cores == 1 else 's'} and {memory_mb} MB"
