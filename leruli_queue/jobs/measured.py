"""What jobs that ended used, beside what they asked for: the numbers of task-report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from leruli_queue.access.authenticate import User
from leruli_queue.jobs.batches import find_batch
from leruli_queue.jobs.states import JobState
from leruli_queue.jobs.status import UnknownJobError
from leruli_queue.store.pool import Connection
from leruli_queue.store.queries import queries, rows

# Before the first job of a batch that ended.
_BEGINNING = {
    "state": JobState.COMPLETED,
    "ended_at": datetime(1970, 1, 1, tzinfo=UTC),
    "id": UUID(int=0),
}


@dataclass(frozen=True)
class Measured:
    """What the last attempt of a job used. None: nobody measured it."""

    # From the submission to the dispatch of this attempt, and from there to its start grant.
    queue_s: float | None
    place_s: float | None
    image_s: float | None
    input_s: float | None
    # Of the command.
    wall_s: float | None
    output_s: float | None
    cpu_s: float | None
    peak_memory_mb: int | None
    # Without page cache.
    peak_no_cache_mb: int | None
    disk_mb: int | None


@dataclass(frozen=True)
class ReportedJob:
    """A job that ended, with what its last attempt had and used."""

    id: UUID
    name: str
    code: str
    version: str
    state: JobState
    attempts: int
    cores: int
    memory_mb: int
    time_limit_s: int
    # None: it asked for no limit and had the default.
    disk_limit_mb: int | None
    # Of the last attempt (leruli_queue.jobs.outcomes). None: it has no receipt.
    outcome: str | None
    measured: Measured


async def report_of_jobs(
    connection: Connection, user: User, job_ids: Sequence[UUID]
) -> list[ReportedJob]:
    """Return those of these jobs that are the user's own and have ended, in their order."""
    found = await rows(queries.report_of_jobs(connection, ids=job_ids, user_id=user.id))
    return [_reported(row) for row in found]


async def report_of_batch(
    connection: Connection, user: User, batch_id: UUID, after: UUID | None, limit: int
) -> list[ReportedJob]:
    """Return a page of the jobs of a batch that have ended: by state, then by their end.

    A job that ends while somebody reads page after page may be missed, and none comes twice.

    Raises
    ------
    UnknownBatchError
        For an unknown batch and for other people's alike.
    UnknownJobError
        When ``after`` is no job of the batch that has ended.
    """
    batch = await find_batch(connection, user, batch_id)
    start: Mapping[str, Any] | None = _BEGINNING
    if after is not None:
        start = await queries.place_among_ended(connection, batch=batch.number, job_id=after)
    if start is None:
        raise UnknownJobError
    found = await rows(
        queries.ended_of_batch(connection, batch=batch.number, limit=limit, **dict(start))
    )
    return await report_of_jobs(connection, user, [row["id"] for row in found])


def _reported(row: Any) -> ReportedJob:
    measured = {field.name for field in fields(Measured)}
    own = {field.name for field in fields(ReportedJob)} - {"measured", "state"}
    return ReportedJob(
        **{name: row[name] for name in own},
        state=JobState(row["state"]),
        measured=Measured(**{name: row[name] for name in measured}),
    )
