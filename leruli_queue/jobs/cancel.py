"""Cancel jobs: one, many, or all of a user in some states.

- Before its start grant a job does not run. It is cancelled at once, and a later start is refused.
- After it, the job keeps its state until the receipt of the attempt. So ``cancelled`` also means
  that the output up to then can be fetched.

One statement on the job's row decides which case it is. attempt-start locks the same row, so the
first of the two wins. The dispatcher's stopper ends the allocation in Nomad.
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
"""Most jobs that one call of :func:`cancel_own` cancels: about 1 s of the database's time."""

_BEFORE_IT_RAN = "cancelled before it ran"


@dataclass(frozen=True)
class Cancelled:
    """Numbers of jobs that a call of :func:`cancel_own` changed."""

    cancelled: int  # final: they had not started
    stopping: int  # marked; their receipts will make them cancelled


async def cancel_job(connection: Connection, user: User, job_id: UUID) -> Status:
    """Cancel a job as :func:`cancel_jobs` does, and return its status.

    Raises
    ------
    UnknownJobError
        For an unknown job and for other people's alike.
    """
    return known(await cancel_jobs(connection, user, [job_id]), job_id)


async def cancel_jobs(
    connection: Connection, user: User, job_ids: Collection[UUID]
) -> dict[UUID, Status]:
    """Cancel jobs and return their status. Unknown jobs and those of other people are missing.

    An admin's cancellation of another user's job is in the group's audit. A repeated call, or a job
    that has ended, changes nothing. Two statements: the caller needs a transaction.
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
    """Cancel the user's own jobs in some states; see :func:`_cancel_of`."""
    return await _cancel_of(connection, user, user.id, states)


async def cancel_named(
    connection: Connection, admin: User, name: str, states: Sequence[JobState]
) -> Cancelled:
    """Cancel the jobs in some states of each user who ever had a name; see :func:`_cancel_of`.

    The cancellations are in the group's audit.

    Raises
    ------
    UserReportableError
        403 for a user who may not cancel others' jobs; 404 when no user of the group ever had the
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

    A call cancels at most :data:`CANCELLED_AT_ONCE` of each state, and skips jobs whose
    cancellation was requested before. So repeat it until it cancels none. A job that leaves these
    states meanwhile is not touched. Two statements: the caller needs a transaction.
    """
    locked = await rows(
        queries.lock_own_to_cancel(
            connection,
            user_id=owner_id,
            states=list(dict.fromkeys(states)),
            limit=CANCELLED_AT_ONCE,
        )
    )
    return await cancel_locked(connection, user, [each["id"] for each in locked])


async def cancel_locked(connection: Connection, user: User, job_ids: Sequence[UUID]) -> Cancelled:
    """Cancel jobs that this transaction has locked; those of another user go into the audit."""
    row = await queries.cancel_own_jobs(
        connection,
        group_id=user.group_id,
        user_id=user.id,
        job_ids=list(job_ids),
        reason=_BEFORE_IT_RAN,
        action=Action.JOB_CANCELLED,
    )
    return Cancelled(row["cancelled"], row["stopping"])


def _after(state: JobState) -> Status:
    """Return the status of a job that had not ended when it was cancelled."""
    if state is JobState.CANCELLED:
        return Status(state, _BEFORE_IT_RAN)
    return Status(state, "cancellation was requested; it is being stopped")


def _ended(status: Status) -> Status:
    """Say why a job that has ended was not cancelled."""
    if status.state is JobState.CANCELLED:
        return status
    return Status(status.state, f"the job has {status.state.value} already")
