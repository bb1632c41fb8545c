"""Cancel a job.

Before leave to start was given nothing runs yet: the job is cancelled at once, and a start that
comes later is refused. After it, the job stays what it is until the receipt of the attempt, so
that ``cancelled`` also means that the output up to then can be fetched. Both are decided in one
statement on the job's row, where attempt-start takes its leave as well: whichever comes first
wins. Ending the allocation in Nomad is left to the stopper of the dispatcher.
"""

from __future__ import annotations

from uuid import UUID

from leruli_queue.access.authenticate import User
from leruli_queue.groups.audit import Action, note_action
from leruli_queue.jobs.states import FINAL, JobState
from leruli_queue.jobs.status import Status, UnknownJobError, job_status
from leruli_queue.store.pool import Connection
from leruli_queue.store.queries import queries

BEFORE_IT_RAN = "cancelled before it ran"
"""The reason of a job that was cancelled without leave to start."""


async def cancel_job(connection: Connection, user: User, job_id: UUID) -> Status:
    """Cancel a job that the user may touch and return its status; noted when it is another's.

    Repeating it changes nothing; neither does cancelling a job that has ended.

    Raises
    ------
    UnknownJobError
        For an unknown job and for other people's alike.
    """
    row = await queries.cancel_job(
        connection,
        job_id=job_id,
        group_id=user.group_id,
        user_id=user.id,
        owner_id=user.owner_id,
        reason=BEFORE_IT_RAN,
    )
    if row is not None:
        if row["user_id"] != user.id and row["is_first_request"]:
            await note_action(
                connection,
                user.group_id,
                Action.JOB_CANCELLED,
                actor_id=user.id,
                subject=str(job_id),
            )
        return status_after_cancel(JobState(row["state"]))
    status = await job_status(connection, user, job_id)
    if status.state not in FINAL:  # cannot be: what is not final can be cancelled
        raise UnknownJobError
    return status_of_ended(status)


def status_after_cancel(state: JobState) -> Status:
    """Say what became of a job that had not ended when it was cancelled."""
    if state is JobState.CANCELLED:
        return Status(state, BEFORE_IT_RAN)
    return Status(state, "cancellation was requested; it is being stopped")


def status_of_ended(status: Status) -> Status:
    """Say why a job that has ended was not cancelled."""
    if status.state is JobState.CANCELLED:
        return status
    return Status(status.state, f"the job has {status.state.value} already")
