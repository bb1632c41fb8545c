"""Usage of a group: jobs, core-hours and CPU time, by user, code, month and batch."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from leruli_queue.errors import UserReportableError
from leruli_queue.jobs.batch_references import batches_named
from leruli_queue.jobs.events import users_of_group
from leruli_queue.store.pool import Connection, Pool
from leruli_queue.store.queries import queries, rows

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_END_OF_TIME = datetime(9999, 12, 31, tzinfo=UTC)

MAX_ROWS = 10_000
"""Most rows of an answer. A user may have as many versions of a code as jobs."""


class Dimension(StrEnum):
    """A dimension by which usage is grouped."""

    USER = "user"
    CODE = "code"
    MONTH = "month"
    BATCH = "batch"


@dataclass(frozen=True)
class UsageRow:
    """The usage of jobs that have ended. A dimension that was not asked for is None."""

    user: str | None
    code: str | None  # code:version
    month: str | None  # YYYY-MM, UTC, of the job's end
    jobs: int
    completed: int
    failed: int
    cancelled: int
    # Cores that were asked for, times the wall time of the attempts.
    core_hours: float
    # The part of them of which the CPU time is known, and that time.
    measured_core_hours: float
    cpu_hours: float
    batch_id: UUID | None
    batch_name: str | None


async def group_usage(
    connection: Connection | Pool,
    group_id: int,
    by: Collection[Dimension],
    since: datetime | None,
    until: datetime | None,
    batch: str | None = None,
) -> list[UsageRow]:
    """Sum up the jobs of a group that ended from ``since`` (included) to ``until`` (not included).

    Core-hours are the job's cores times the wall time of all its attempts. If an attempt was lost
    with its node, its time is unknown and not counted. Users who had the same name one after the
    other have a row each, and so have batches of one name.

    Parameters
    ----------
    batch
        Only jobs of batches with this name, or whose id begins so.

    Raises
    ------
    UserReportableError
        422 when the answer would have more than :data:`MAX_ROWS` rows, 404 when there is no such
        batch.
    """
    batches = None
    if batch is not None:
        user_ids = await users_of_group(connection, group_id)
        batches = await batches_named(connection, user_ids, batch)
    found = await rows(
        queries.usage_of_group(
            connection,
            group_id=group_id,
            by_user=Dimension.USER in by,
            by_code=Dimension.CODE in by,
            by_month=Dimension.MONTH in by,
            by_batch=Dimension.BATCH in by,
            batches=batches,
            since=since or _EPOCH,
            until=until or _END_OF_TIME,
            limit=MAX_ROWS + 1,
        )
    )
    if len(found) > MAX_ROWS:
        raise UserReportableError(
            f"These are more than {MAX_ROWS} rows. Ask for a shorter time (since, until) or for "
            "less in `by`.",
            status=422,
        )
    return [
        UsageRow(
            row["user_name"],
            row["code"],
            row["month"],
            row["jobs"],
            row["completed"],
            row["failed"],
            row["cancelled"],
            row["core_hours"],
            row["measured_core_hours"],
            row["cpu_hours"],
            row["batch_id"],
            row["batch_name"],
        )
        for row in found
    ]


def as_csv(columns: list[str], lines: Iterable[Iterable[Any]]) -> str:
    """Return a table as CSV (RFC 4180). No allowed name begins like a spreadsheet's formula."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(columns)
    writer.writerows(lines)
    return text.getvalue()
