"""Events: which jobs changed their state, read with a cursor that never skips one.

docs/developers/events.md has the rules.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from leruli_queue.errors import UserReportableError
from leruli_queue.jobs.states import JobState
from leruli_queue.store.pool import Connection, Pool
from leruli_queue.store.queries import queries, rows

# With a filter one statement may look at more events than it answers.
_MOST_SCANNED = 5000
# Events of one DELETE, and DELETEs of one turn of the dispatcher's maintenance.
_PORTION, _MOST_PORTIONS = 5000, 10


@dataclass(frozen=True, order=True)
class Cursor:
    """A place between two events. Every event before it was read, and none appears there later."""

    xid: int
    number: int

    def __str__(self) -> str:
        return f"{self.xid}-{self.number}"

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Read a cursor of the form that the API checks."""
        xid, _, number = text.partition("-")
        return cls(int(xid), int(number))


class OldCursorError(UserReportableError):
    """Events after the cursor may be missing. The reader has to begin again."""

    def __init__(self) -> None:
        super().__init__(
            "The cursor cannot be used any more: events after it were deleted, or the database was "
            "restored. Begin again: ask for a new cursor (this call without one), then read the "
            "status of your jobs once (bulk/task-status), then go on from the new cursor.",
            status=410,
        )


@dataclass(frozen=True)
class Event:
    """A job's change of state."""

    # Of two events of one job, the one with the higher number is the later one.
    number: int
    job_id: UUID
    user: str
    name: str
    bucket: str
    state: JobState
    reason: str | None
    exit_code: int | None
    attempt: int
    at: datetime
    # None: the job has no batch.
    batch_id: UUID | None
    batch_name: str | None


@dataclass(frozen=True)
class Wanted:
    """Which events a reader wants."""

    # None: of all jobs.
    job_ids: frozenset[UUID] | None = None
    # Numbers of batches. None: of all jobs.
    batches: tuple[int, ...] | None = None
    states: tuple[JobState, ...] = tuple(JobState)
    limit: int = 1000


@dataclass(frozen=True)
class Page:
    """Events after a cursor, in the order of cursors."""

    events: list[Event]
    # Where the next page begins.
    cursor: Cursor
    # Whether the next page has more to look at already.
    more: bool = False


async def begin(connection: Connection | Pool) -> Page:
    """Return an empty page whose cursor is before every event that nobody can have read."""
    return Page([], Cursor(await queries.newest_position(connection), 0))


async def users_with_new_events(pool: Pool, xid: int) -> tuple[list[int], int]:
    """Return the users with events that nobody could read yet at ``xid``, and the next ``xid``."""
    row = await queries.users_with_new_events(pool, xid=str(xid))
    return row["user_ids"], row["xmin"]


async def users_of_group(connection: Connection | Pool, group_id: int) -> list[int]:
    """Return the ids of everybody whose jobs make events of the group."""
    found = await rows(queries.users_with_events(connection, group_id=group_id))
    return [row["id"] for row in found]


async def read_events(
    connection: Connection | Pool, user_ids: Collection[int], after: Cursor, wanted: Wanted
) -> Page:
    """Return the next events of some users.

    Raises
    ------
    OldCursorError
        When events after the cursor may have been deleted.
    """
    has_filter = (
        wanted.job_ids is not None
        or wanted.batches is not None
        or len(set(wanted.states)) < len(JobState)
    )
    most_scanned = _MOST_SCANNED if has_filter else wanted.limit
    found = await rows(
        queries.events_after(
            connection,
            user_ids=list(user_ids),
            xid=str(after.xid),
            number=after.number,
            most_scanned=most_scanned,
            job_ids=None if wanted.job_ids is None else list(wanted.job_ids),
            batches=None if wanted.batches is None else list(wanted.batches),
            states=list(dict.fromkeys(wanted.states)),
            limit=wanted.limit,
        )
    )
    position = found[0]
    if after.xid <= position["deleted"] or after.xid > position["xmax"]:
        raise OldCursorError
    events = [_event(row) for row in found if row["id"] is not None]
    page = Page(events, Cursor(max(position["xmin"], after.xid), 0))
    if len(events) == wanted.limit:
        return replace(page, cursor=Cursor(found[-1]["xid"], found[-1]["id"]), more=True)
    if position["scanned"] == most_scanned:
        scanned = Cursor(position["scanned_xid"], position["scanned_id"])
        return replace(page, cursor=scanned, more=True)
    # The snapshot may be older than the one that the cursor came from (another copy of a server).
    return replace(page, cursor=max(page.cursor, after))


async def delete_old_events(pool: Pool, keep_s: float) -> None:
    """Delete events that are older than ``keep_s``, in portions that lock for a moment each."""
    await queries.delete_foreign_events(pool)
    for _ in range(_MOST_PORTIONS):
        if await queries.delete_events(pool, keep_s=keep_s, most=_PORTION) < _PORTION:
            return


def _event(row: Any) -> Event:
    return Event(
        number=row["id"],
        job_id=row["job_id"],
        user=row["user_name"],
        name=row["name"],
        bucket=row["bucket"],
        state=JobState(row["state"]),
        reason=row["reason"],
        exit_code=row["exit_code"],
        attempt=row["attempt"],
        at=row["at"],
        batch_id=row["batch_id"],
        batch_name=row["batch_name"],
    )
