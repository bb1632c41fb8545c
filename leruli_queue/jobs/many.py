"""Ask for and cancel many jobs at once: one statement, however many they are."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from uuid import UUID

from leruli_queue.access.authenticate import User
from leruli_queue.groups.audit import Action
from leruli_queue.jobs.cancel import BEFORE_IT_RAN, status_after_cancel, status_of_ended
from leruli_queue.jobs.reasons import living_capacity, reason_of
from leruli_queue.jobs.states import JobState
from leruli_queue.jobs.status import Status
from leruli_queue.store.pool import Connection, Pool
from leruli_queue.store.queries import queries, rows

CANCELLED_AT_ONCE = 20_000
"""Jobs that one call of :func:`cancel_own` takes at most: a second or so of the database's time."""


@dataclass(frozen=True)
class Cancelled:
    """What a call of :func:`cancel_own` did."""

    cancelled: int  # over: they had not begun
    stopping: int  # marked: their receipts make them cancelled


async def job_statuses(
    connection: Connection | Pool, user: User, job_ids: Collection[UUID]
) -> dict[UUID, Status]:
    """Return the status of each job that the user may touch; the others are missing."""
    found = await rows(
        queries.job_statuses(
            connection, job_ids=list(job_ids), group_id=user.group_id, owner_id=user.owner_id
        )
    )
    capacity = None
    if any(row["state"] == JobState.RECEIVED for row in found):
        capacity = await living_capacity(connection, user.group_id)
    return {row["id"]: Status(JobState(row["state"]), reason_of(row, capacity)) for row in found}


async def cancel_jobs(
    connection: Connection, user: User, job_ids: Collection[UUID]
) -> dict[UUID, Status]:
    """Cancel jobs as :func:`leruli_queue.jobs.cancel.cancel_job` does; unknown ones are missing."""
    found = await rows(
        queries.cancel_jobs(
            connection,
            job_ids=list(job_ids),
            group_id=user.group_id,
            user_id=user.id,
            owner_id=user.owner_id,
            reason=BEFORE_IT_RAN,
            action=Action.JOB_CANCELLED,
        )
    )
    after = {row["id"]: status_after_cancel(JobState(row["state"])) for row in found}
    others = [job_id for job_id in job_ids if job_id not in after]
    if others:
        ended = await job_statuses(connection, user, others)
        after |= {job_id: status_of_ended(status) for job_id, status in ended.items()}
    return after


async def cancel_own(connection: Connection, user: User, states: Sequence[JobState]) -> Cancelled:
    """Cancel the user's own jobs in some states, the oldest first.

    At most :data:`CANCELLED_AT_ONCE` of each state, and none that was asked for before: repeat it
    until it cancels none. A job that leaves the states meanwhile is not touched.
    """
    row = await queries.cancel_own_jobs(
        connection,
        user_id=user.id,
        states=list(dict.fromkeys(states)),
        reason=BEFORE_IT_RAN,
        limit=CANCELLED_AT_ONCE,
    )
    return Cancelled(row["cancelled"], row["stopping"])
