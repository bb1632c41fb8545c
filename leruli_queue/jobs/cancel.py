"""Cancel jobs: one, many, or all own ones in some states.

Before leave to start was given nothing runs yet: a job is cancelled at once, and a start that
comes later is refused. After it, the job stays what it is until the receipt of the attempt, so
that ``cancelled`` also means that the output up to then can be fetched. Both are decided in one
statement on the job's row, where attempt-start takes its leave as well: whichever comes first
wins. Ending the allocation in Nomad is left to the stopper of the dispatcher.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from uuid import UUID

from leruli_queue.access.audit import Action
from leruli_queue.access.authenticate import User
from leruli_queue.errors import UserReportableError
from leruli_queue.jobs.states import JobState
from leruli_queue.jobs.status import Status, job_statuses, known
from leruli_queue.store.pool import Connection
from leruli_queue.store.queries import queries, rows

CANCELLED_AT_ONCE = 20_000
"""Jobs that one call of :func:`cancel_own` takes at most: a second or so of the database's time."""

_BEFORE_IT_RAN = "cancelled before it ran"


@dataclass(frozen=True)
class Cancelled:
    """What a call of :func:`cancel_own` did."""

    cancelled: int  # over: they had not begun
    stopping: int  # marked: their receipts make them cancelled


async def cancel_job(connection: Connection, user: User, job_id: UUID) -> Status:
    """Cancel a job, as :func:`cancel_jobs`, and return its status.

    Raises
    ------
    UnknownJobError
        For an unknown job and for other people's alike.
    """
    return known(await cancel_jobs(connection, user, [job_id]), job_id)


async def cancel_jobs(
    connection: Connection, user: User, job_ids: Collection[UUID]
) -> dict[UUID, Status]:
    """Cancel jobs and return their status; unknown and other people's are missing.

    Those of another user stand in the group's audit. Repeating it changes nothing; neither does
    cancelling a job that has ended. Within a transaction of the caller's, for it is two statements.
    """
    locked = await rows(
        queries.lock_to_cancel(
            connection,
            job_ids=list(job_ids),
            group_id=user.group_id,
            owner_id=user.owner_id,
        )
    )
    found = await rows(
        queries.cancel_jobs(
            connection,
            job_ids=[each["id"] for each in locked],
            group_id=user.group_id,
            user_id=user.id,
            reason=_BEFORE_IT_RAN,
            action=Action.JOB_CANCELLED,
        )
    )
    after = {row["id"]: _after(JobState(row["state"])) for row in found}
    others = [job_id for job_id in job_ids if job_id not in after]
    if others:
        ended = await job_statuses(connection, user, others)
        after |= {job_id: _ended(status) for job_id, status in ended.items()}
    return after


async def cancel_own(connection: Connection, user: User, states: Sequence[JobState]) -> Cancelled:
    """Cancel the user's own jobs in some states, as :func:`_cancel_of` says it."""
    return await _cancel_of(connection, user, user.id, states)


async def cancel_named(
    connection: Connection, admin: User, name: str, states: Sequence[JobState]
) -> Cancelled:
    """Cancel the jobs in some states of everybody who ever had a name; they stand in the audit.

    As :func:`_cancel_of` says it, for each of them.

    Raises
    ------
    UserReportableError
        403 for a user who may not cancel others' jobs; 404 when nobody in the group ever had the
        name.
    """
    if admin.owner_id is not None:
        raise UserReportableError(
            "To cancel by another user's name needs the API secret of an admin; ask an admin of "
            "the group.",
            status=403,
        )
    named = await rows(queries.users_named(connection, group_id=admin.group_id, name=name))
    if not named:
        raise UserReportableError("The group never had a user of this name.", status=404)
    done = [await _cancel_of(connection, admin, each["id"], states) for each in named]
    return Cancelled(sum(one.cancelled for one in done), sum(one.stopping for one in done))


async def _cancel_of(
    connection: Connection, user: User, owner_id: int, states: Sequence[JobState]
) -> Cancelled:
    """Cancel the jobs of one owner in some states, the oldest first.

    At most :data:`CANCELLED_AT_ONCE` of each state, and none that was asked for before: repeat it
    until it cancels none. A job that leaves the states meanwhile is not touched. Within a
    transaction of the caller's, for it is two statements.
    """
    locked = await rows(
        queries.lock_own_to_cancel(
            connection,
            user_id=owner_id,
            states=list(dict.fromkeys(states)),
            limit=CANCELLED_AT_ONCE,
        )
    )
    row = await queries.cancel_own_jobs(
        connection,
        group_id=user.group_id,
        user_id=user.id,
        job_ids=[each["id"] for each in locked],
        reason=_BEFORE_IT_RAN,
        action=Action.JOB_CANCELLED,
    )
    return Cancelled(row["cancelled"], row["stopping"])


def _after(state: JobState) -> Status:
    """Say what became of a job that had not ended when it was cancelled."""
    if state is JobState.CANCELLED:
        return Status(state, _BEFORE_IT_RAN)
    return Status(state, "cancellation was requested; it is being stopped")


def _ended(status: Status) -> Status:
    """Say why a job that has ended was not cancelled."""
    if status.state is JobState.CANCELLED:
        return status
    return Status(status.state, f"the job has {status.state.value} already")
