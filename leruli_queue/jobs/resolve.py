"""Find a user's own jobs by the name, or by a part of the id."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from leruli_queue.access.authenticate import User
from leruli_queue.errors import UserReportableError
from leruli_queue.jobs.states import JobState
from leruli_queue.store.pool import Connection
from leruli_queue.store.queries import queries, rows

# Jobs that one statement scans. Names and ends of ids have no index, because it would slow down
# every submission and every change of state (docs/developers/scheduling.md, "Short references").
_SCAN_AT_ONCE = 4000
_SEARCH_TIMEOUT_S = 5.0
_FEWEST_DIGITS, _DIGITS = 4, 32
# Where a UUID's text has its hyphens, counted in digits from the end.
_HYPHENS = (12, 16, 20, 24)
_BELOW_ALL = UUID(int=0)
_ABOVE_ALL = UUID(int=2**128 - 1)


@dataclass(frozen=True)
class FoundJob:
    """A job that a reference can mean."""

    id: UUID
    name: str
    state: JobState
    received_at: datetime


class TooManyJobsError(UserReportableError):
    """The user has too many jobs to search within the timeout."""

    def __init__(self) -> None:
        super().__init__(
            f"You have too many jobs to search all of them within {_SEARCH_TIMEOUT_S:g} s. Give "
            "the whole job id (task-list shows it), which is found at once.",
            status=422,
        )


async def resolve(
    connection: Connection, user: User, reference: str, limit: int
) -> tuple[list[FoundJob], bool]:
    """Return the user's own jobs that a reference can mean.

    Returns
    -------
    tuple
        Up to ``limit`` jobs, newest first, and whether there are more.

    Raises
    ------
    TooManyJobsError
        When the search exceeds its timeout.
    """
    digits = _digits_of(reference)
    found: set[UUID] = set()
    # One snapshot for all states, so that a job whose state changes meanwhile is not missed.
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        if digits is not None:
            found |= await _beginning_with(connection, user, digits, limit)
        if digits is None or len(digits) < _DIGITS:
            tail = None if digits is None else _as_tail(digits)
            found |= await _ending_with_or_called(connection, user, tail, reference, limit)
        newest = sorted(found, reverse=True)[:limit]
        jobs = await rows(queries.found_jobs(connection, ids=newest))
    return [FoundJob(**{**job, "state": JobState(job["state"])}) for job in jobs], len(
        found
    ) > limit


def _digits_of(reference: str) -> str | None:
    """Return the hexadecimal digits of a possible part of an id, else None."""
    digits = reference.replace("-", "").lower()
    if _FEWEST_DIGITS <= len(digits) <= _DIGITS and re.fullmatch("[0-9a-f]+", digits):
        return digits
    return None


def _as_tail(digits: str) -> str:
    """Return digits with the hyphens that they have at the end of an id."""
    for place in _HYPHENS[::-1]:
        if len(digits) > place:
            digits = f"{digits[:-place]}-{digits[-place:]}"
    return digits


async def _beginning_with(connection: Connection, user: User, digits: str, limit: int) -> set[UUID]:
    """Return the newest ids that begin with the digits, at most ``limit`` + 1."""
    found = await rows(
        queries.page_of_users(
            connection,
            user_ids=[user.id],
            states=list(JobState),
            from_id=UUID(digits.ljust(_DIGITS, "0")),
            before_id=UUID(int=min(int(digits.ljust(_DIGITS, "f"), 16) + 1, _ABOVE_ALL.int)),
            limit=limit + 1,
        )
    )
    return {row["id"] for row in found}


async def _ending_with_or_called(
    connection: Connection, user: User, tail: str | None, name: str, limit: int
) -> set[UUID]:
    """Return the newest ids of each state with this end or name, at most ``limit`` + 1 a state."""
    deadline = time.monotonic() + _SEARCH_TIMEOUT_S
    found: set[UUID] = set()
    for state in JobState:
        of_state: list[UUID] = []
        before: UUID | None = _ABOVE_ALL
        while before is not None and len(of_state) <= limit:
            if time.monotonic() > deadline:
                raise TooManyJobsError
            scanned = await queries.scan_jobs(
                connection,
                user_id=user.id,
                state=state,
                from_id=_BELOW_ALL,
                before_id=before,
                tail=tail,
                name=name,
                limit=_SCAN_AT_ONCE,
            )
            of_state += scanned["found"] or []
            before = scanned["last"] if scanned["count"] == _SCAN_AT_ONCE else None
        found.update(of_state)
    return found
