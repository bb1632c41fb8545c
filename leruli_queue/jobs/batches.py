"""Batches: jobs that a user submitted together, with counts by state.

docs/developers/batches.md says how the counts are kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from leruli_queue.access.authenticate import User
from leruli_queue.errors import UserReportableError
from leruli_queue.jobs.batch_references import digits_of
from leruli_queue.jobs.cancel import CANCELLED_AT_ONCE, Cancelled, cancel_locked
from leruli_queue.jobs.states import FINAL, JobState
from leruli_queue.store.locks import BATCH_LOCK
from leruli_queue.store.pool import Connection, Pool
from leruli_queue.store.queries import queries, rows

# The rate is that of the last ends, at most so many.
_RATE_OF = 200
_FAILURES = 5
# Changes of one statement of the dispatcher, and statements of one turn.
_PORTION, _MOST_PORTIONS = 5000, 10


@dataclass(frozen=True)
class Batch:
    """A batch, and how many of its jobs are in each state."""

    number: int
    id: UUID
    name: str
    counts: Mapping[JobState, int]
    submitted_at: datetime
    last_submitted_at: datetime | None
    # None while no job of it has run.
    first_running_at: datetime | None

    @property
    def jobs(self) -> int:
        """The number of jobs."""
        return sum(self.counts.values())

    @property
    def open_jobs(self) -> int:
        """The number of jobs that are not over."""
        return sum(count for state, count in self.counts.items() if state not in FINAL)


@dataclass(frozen=True)
class Failure:
    """A job of a batch that failed."""

    id: UUID
    name: str
    reason: str | None
    exit_code: int | None
    ended_at: datetime


@dataclass(frozen=True)
class BatchStatus:
    """A batch, how fast it goes, and its last failures."""

    batch: Batch
    last_ended_at: datetime | None
    # Jobs that complete or fail, a second. None before the first one.
    rate: float | None
    # None when the batch is over, or nobody can tell yet.
    expected_end: datetime | None
    # The newest first.
    failures: list[Failure]


class UnknownBatchError(UserReportableError):
    """No such batch, or one of another user. The answer is the same for both."""

    def __init__(self) -> None:
        super().__init__(
            "There is no such batch, or it is not yours. Check the batch id (batch-list).",
            status=404,
        )


async def batch_status(connection: Connection, user: User, batch_id: UUID) -> BatchStatus:
    """Return the status of a batch of the user.

    Raises
    ------
    UnknownBatchError
        For an unknown batch and for other people's alike.
    """
    batch = await find_batch(connection, user, batch_id)
    ends = await queries.ends_of_batch(connection, batch=batch.number, most=_RATE_OF)
    failures = await last_failures(connection, batch)
    rate = _rate(batch, ends)
    expected_end = None
    if rate and batch.open_jobs:
        expected_end = _later(ends["now"], batch.open_jobs / rate)
    return BatchStatus(batch, ends["last_ended_at"], rate, expected_end, failures)


async def last_failures(connection: Connection, batch: Batch) -> list[Failure]:
    """Return the last failures of a batch, the newest first."""
    found = await rows(queries.failures_of_batch(connection, batch=batch.number, limit=_FAILURES))
    return [Failure(**row) for row in found]


async def batch_page(
    connection: Connection, user: User, reference: str | None, after: UUID | None, limit: int
) -> list[Batch]:
    """Return a page of the user's batches, newest first.

    With a ``reference`` only those with this name, and those whose id begins with it (at least
    four hexadecimal digits; hyphens do not count).
    """
    found = await rows(
        queries.page_of_batches(
            connection,
            user_id=user.id,
            reference=reference,
            digits=None if reference is None else digits_of(reference),
            after=after,
            limit=limit,
        )
    )
    return [batch_of_row(row) for row in found]


async def cancel_batch(connection: Connection, user: User, batch_id: UUID) -> Cancelled:
    """Cancel the jobs of a batch of the user, the oldest first.

    A call cancels at most :data:`~leruli_queue.jobs.cancel.CANCELLED_AT_ONCE` of each state, and
    skips jobs whose cancellation was requested before. So repeat it until it cancels none. Two
    statements: the caller needs a transaction.

    Raises
    ------
    UnknownBatchError
        For an unknown batch and for other people's alike.
    """
    batch = await find_batch(connection, user, batch_id)
    locked = await rows(
        queries.lock_batch_to_cancel(
            connection,
            batch=batch.number,
            states=[state for state in JobState if state not in FINAL],
            limit=CANCELLED_AT_ONCE,
        )
    )
    return await cancel_locked(connection, user, [each["id"] for each in locked])


async def fold_batch_changes(pool: Pool) -> None:
    """Add changes of batches to their counts, in portions; can be repeated."""
    for _ in range(_MOST_PORTIONS):
        if await queries.fold_batch_changes(pool, lock=BATCH_LOCK, most=_PORTION) < _PORTION:
            return


async def find_batch(connection: Connection, user: User, batch_id: UUID) -> Batch:
    """Return a batch of the user.

    Raises
    ------
    UnknownBatchError
        For an unknown batch and for other people's alike.
    """
    row = await queries.batch_now(connection, user_id=user.id, id=batch_id)
    if row is None:
        raise UnknownBatchError
    return batch_of_row(row)


def batch_of_row(row: Any) -> Batch:
    """Return the batch of a row of the view ``batches_now``."""
    return Batch(
        number=row["number"],
        id=row["id"],
        name=row["name"],
        counts={state: row[state.value] for state in JobState},
        submitted_at=row["submitted_at"],
        last_submitted_at=row["last_submitted_at"],
        first_running_at=row["first_running_at"],
    )


def _rate(batch: Batch, ends: Mapping[str, Any]) -> float | None:
    """Return the rate of the last ends; of a batch that is over, of its whole time."""
    began = batch.first_running_at
    if not ends["jobs"] or began is None:
        return None
    if not batch.open_jobs:
        count = batch.counts[JobState.COMPLETED] + batch.counts[JobState.FAILED]
        time = ends["last_ended_at"] - began
    else:
        count = ends["jobs"]
        # With fewer ends than the limit these are all ends.
        time = ends["now"] - (ends["since"] if count == _RATE_OF else began)
    return float(count / max(time.total_seconds(), 1.0))


def _later(now: datetime, seconds: float) -> datetime | None:
    try:
        return now + timedelta(seconds=seconds)
    except OverflowError:
        return None
