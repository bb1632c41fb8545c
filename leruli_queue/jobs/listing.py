"""Pages of jobs, newest first."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from leruli_queue.jobs.reasons import asks_for_capacity, living_capacity, reason_of
from leruli_queue.jobs.states import JobState
from leruli_queue.store.pool import Connection, Pool
from leruli_queue.store.queries import queries, rows

_FIRST = UUID(int=0)
_AFTER_ALL = UUID(int=2**128 - 1)


@dataclass(frozen=True)
class ListedJob:
    """A job as other members of its group may see it: without its bucket."""

    id: UUID
    user: str
    name: str
    code: str
    version: str
    cores: int
    memory_mb: int
    # None: the job asks for no limit and has the default.
    disk_mb: int | None
    shm_mb: int | None
    # Whether it may run in the container of the user's job before it.
    share_container: bool
    state: JobState
    reason: str | None
    exit_code: int | None
    attempts: int
    received_at: datetime
    submitted_at: datetime | None
    running_at: datetime | None
    ended_at: datetime | None
    # None: the job has no batch.
    batch_id: UUID | None
    batch_name: str | None


@dataclass(frozen=True)
class Filter:
    """Which jobs to list, and where the page begins.

    ``since`` (included) and ``until`` (not included) are times at which a job was received.
    """

    states: tuple[JobState, ...] = tuple(JobState)
    since: datetime | None = None
    until: datetime | None = None
    # The last job of the page before. This page has only older jobs.
    after: UUID | None = None

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of the statements: states, and the range of ids.

        An id holds the millisecond in which its job was received, so the times need no index.
        """
        lowest = _FIRST if self.since is None else _first_id_at(self.since)
        above = _AFTER_ALL if self.until is None else _first_id_at(self.until)
        return {
            "states": list(dict.fromkeys(self.states)),
            "from_id": lowest,
            "before_id": above if self.after is None else min(above, self.after),
        }


async def group_page(
    connection: Connection | Pool, group_id: int, wanted: Filter, limit: int
) -> list[ListedJob]:
    """Return a page of the jobs of a whole group."""
    arguments = wanted.arguments() | {"group_id": group_id, "limit": limit}
    found = await rows(queries.page_of_group(connection, **arguments))
    return await listed(connection, group_id, [row["id"] for row in found])


async def users_page(
    connection: Connection | Pool,
    group_id: int,
    user_ids: Iterable[int],
    wanted: Filter,
    limit: int,
) -> list[ListedJob]:
    """Return a page of the jobs of some users of a group."""
    arguments = wanted.arguments() | {"user_ids": list(user_ids), "limit": limit}
    found = await rows(queries.page_of_users(connection, **arguments))
    return await listed(connection, group_id, [row["id"] for row in found])


async def batches_page(
    connection: Connection | Pool,
    group_id: int,
    batches: Collection[int],
    wanted: Filter,
    limit: int,
) -> list[ListedJob]:
    """Return a page of the jobs of some batches of a group."""
    arguments = wanted.arguments() | {"batches": list(batches), "limit": limit}
    found = await rows(queries.page_of_jobs_in_batches(connection, **arguments))
    return await listed(connection, group_id, [row["id"] for row in found])


async def listed(
    connection: Connection | Pool, group_id: int, job_ids: list[UUID]
) -> list[ListedJob]:
    """Return jobs of a group by their ids, newest first."""
    found = await rows(queries.listed_jobs(connection, ids=job_ids))
    capacity = None
    if asks_for_capacity(found):
        capacity = await living_capacity(connection, group_id)
    return [
        ListedJob(
            id=row["id"],
            user=row["user_name"],
            name=row["name"],
            code=row["code"],
            version=row["version"],
            cores=row["cores"],
            memory_mb=row["memory_mb"],
            disk_mb=row["disk_mb"],
            shm_mb=row["shm_mb"],
            share_container=row["share_container"],
            state=JobState(row["state"]),
            reason=reason_of(row, capacity),
            exit_code=row["exit_code"],
            attempts=row["attempt"],
            received_at=row["received_at"],
            submitted_at=row["submitted_at"],
            running_at=row["running_at"],
            ended_at=row["ended_at"],
            batch_id=row["batch_id"],
            batch_name=row["batch_name"],
        )
        for row in found
    ]


def _first_id_at(time: datetime) -> UUID:
    """Return the lowest id (UUID version 7) that a job received at a time can have."""
    milliseconds = int(time.astimezone(UTC).timestamp() * 1000)
    return UUID(int=max(0, min(milliseconds, 2**48 - 1)) << 80)
