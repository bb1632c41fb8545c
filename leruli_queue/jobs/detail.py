"""One job in detail, with its attempts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from leruli_queue.access.authenticate import User
from leruli_queue.jobs.listing import ListedJob, listed
from leruli_queue.jobs.retry_rules import RetryProgress, progress_of
from leruli_queue.jobs.states import JobState
from leruli_queue.jobs.status import UnknownJobError, why_its_turn
from leruli_queue.store.pool import Connection
from leruli_queue.store.queries import queries, rows

# The number of attempts that never started has no limit: a job may be requeued for weeks.
_MOST_ATTEMPTS = 100


class AttemptState(StrEnum):
    """Where an attempt is."""

    WAITING = "waiting"  # unplaced, or its node has not asked for the start grant yet
    STARTED = "started"  # its node has the start grant and fetches image and input
    RUNNING = "running"
    STOPPING = "stopping"  # it is the current one, and its stop was requested
    ENDED = "ended"  # its node sent the receipt
    STOPPED = "stopped"  # without a receipt: abandoned, or cancelled before it started


@dataclass(frozen=True)
class Attempt:
    """One attempt of a job, as people see it."""

    number: int
    # The name of its node; None while it has none.
    node: str | None
    state: AttemptState
    # From its receipt (leruli_queue.jobs.outcomes); None without a receipt.
    outcome: str | None
    message: str | None
    started_at: datetime | None
    ended_at: datetime | None
    exit_code: int | None
    peak_memory_mb: int | None
    cpu_s: float | None
    # What it had. The job's own limits are those of its last attempt, or of the next one.
    memory_mb: int
    time_limit_s: int


@dataclass(frozen=True)
class JobDetail:
    """A job with its limits and its last attempts, the oldest first."""

    job: ListedJob
    time_limit_s: int
    priority: int
    cancel_requested_at: datetime | None
    attempts: list[Attempt]
    # None: it has no retry rule.
    retry: RetryProgress | None

    @property
    def last_run(self) -> Attempt | None:
        """The last attempt that a node started."""
        return next((each for each in reversed(self.attempts) if each.started_at), None)


async def job_detail(connection: Connection, user: User, job_id: UUID) -> JobDetail:
    """Return a job that the user may touch, with its limits and last attempts.

    Raises
    ------
    UnknownJobError
        For an unknown job and for other people's alike.
    """
    limits = await queries.limits_of_job(
        connection, job_id=job_id, group_id=user.group_id, owner_id=user.owner_id
    )
    if limits is None:
        raise UnknownJobError
    [job] = await listed(connection, user.group_id, [job_id])
    if job.state is JobState.RECEIVED and job.reason is None:
        job = replace(job, reason=await why_its_turn(connection, job_id))
    found = await rows(queries.attempts_of_job(connection, job_id=job_id, limit=_MOST_ATTEMPTS))
    attempts = [Attempt(**{**row, "state": AttemptState(row["state"])}) for row in reversed(found)]
    return JobDetail(
        job,
        limits["time_limit_s"],
        limits["priority"],
        limits["cancel_requested_at"],
        attempts,
        progress_of(limits),
    )
