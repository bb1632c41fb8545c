"""The jobs, the usage and the machines of the group, from Python."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from leruli.errors import RefusedError
from leruli.python_api.arguments import (
    Moment,
    as_limit,
    as_states,
    as_text,
    as_utc,
    several,
)
from leruli.python_api.job import Job, moment, read_answer
from leruli.service.group import open_reader

_KEYS = ("user", "code", "month", "batch")
_BY_DEFAULT = ("user", "code", "month")


@dataclass(frozen=True)
class Usage:
    """The number, the core-hours and the CPU hours of jobs that have ended."""

    user: str | None  #: None unless `by` has "user"
    code: str | None  #: None unless `by` has "code"
    #: YYYY-MM of the end of the jobs, in UTC; None unless `by` has "month".
    month: str | None
    jobs: int
    completed: int
    failed: int
    cancelled: int
    core_hours: float  #: requested cores, times the hours of all attempts
    #: The part of them of which the CPU time was measured; None: the queue is older.
    measured_core_hours: float | None
    cpu_hours: float | None  #: CPU time that was used in `measured_core_hours`, hours
    batch_id: str | None  #: None unless `by` has "batch", and for jobs without a batch
    batch_name: str | None

    @property
    def cpu_efficiency(self) -> float | None:
        """CPU time as a part of the measured core-hours; None if nothing was measured."""
        if not self.measured_core_hours or self.cpu_hours is None:
            return None
        return self.cpu_hours / self.measured_core_hours

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Usage:
        """Read a row of the service's answer. Raises ServiceError."""
        return read_answer(
            lambda: cls(
                user=row.get("user"),
                code=row.get("code"),
                month=row.get("month"),
                jobs=row["jobs"],
                completed=row["completed"],
                failed=row["failed"],
                cancelled=row["cancelled"],
                core_hours=row["corehours"],
                measured_core_hours=row.get("measuredcorehours"),
                cpu_hours=row.get("cpuhours"),
                batch_id=row.get("batchid"),
                batch_name=row.get("batchname"),
            )
        )


@dataclass(frozen=True)
class Node:
    """A machine of the group."""

    nodeid: str
    name: str
    standing: str  #: "usable", "troubled", "drained", "left" or "outdated": docs/admins/api.md
    reason: str | None  #: why it gets no job now, in a sentence
    cores: int
    cores_free: int
    memory_mb: int  #: MB
    memory_free_mb: int  #: MB
    disk_free_mb: int | None  #: MB; None until its first report
    job_count: int  #: jobs with a start grant on it
    images: tuple[str, ...]  #: images on it, as code:version; the first 100
    last_seen_at: datetime | None

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Node:
        """Read an entry of the service's answer. Raises ServiceError."""
        return read_answer(
            lambda: cls(
                nodeid=str(entry["nodeid"]),
                name=entry["name"],
                standing=entry["standing"],
                reason=entry.get("reason"),
                cores=entry["cores"],
                cores_free=entry["coresfree"],
                memory_mb=entry["memorymb"],
                memory_free_mb=entry["memoryfreemb"],
                disk_free_mb=entry.get("diskfreemb"),
                job_count=entry["jobs"],
                images=tuple(entry.get("images") or ()),
                last_seen_at=moment(entry.get("lastseenat")),
            )
        )


def group_activity(
    *,
    states: str | Iterable[str] | None = None,
    user: str | None = None,
    batch: str | None = None,
    since: Moment | None = None,
    until: Moment | None = None,
    limit: int | None = None,
    after: str | None = None,
) -> Iterator[Job]:
    """List the jobs of the group, the newest first.

    The call uses LERULI_GROUP_TOKEN. If it is not set, it is fetched with LERULI_API_SECRET.

    Parameters
    ----------
    user
        Only jobs of this user.
    batch
        Only jobs of batches of this name, or whose id begins with these digits, at least four.
    states, since, until, limit, after
        The same as for `task_list`.

    Returns
    -------
    iterator of Job
        It asks for further jobs while it is used.

    Raises
    ------
    TypeError, NotFoundError, RefusedError, UnknownCallError, SettingsError, ServiceError
        As `task_list`.
    """
    filters: dict[str, Any] = {
        "states": as_states(states),
        "user": None if user is None else as_text("user", user),
        "since": as_utc("since", since),
        "until": as_utc("until", until),
    }
    if batch is not None:
        filters["batch"] = as_text("batch", batch)
    most = as_limit(limit)
    start = None if after is None else as_text("after", after)

    def listed() -> Iterator[Job]:
        with open_reader() as group:
            for page in group.activity(most, start, **filters):
                yield from map(Job.of, page.entries)

    return listed()


def group_usage(
    by: Iterable[str] = _BY_DEFAULT,
    *,
    batch: str | None = None,
    since: Moment | None = None,
    until: Moment | None = None,
) -> list[Usage]:
    """Return the number, the core-hours and the CPU hours of the group's jobs that have ended.

    Parameters
    ----------
    by
        Group the sums by any of "user", "code", "month" and "batch".
    batch
        As for `group_activity`.
    since, until
        Only jobs that ended at `since` or later, and before `until`. The types are those of
        `task_list`.

    Returns
    -------
    list of Usage
        One entry per combination of the values of `by`.

    Raises
    ------
    TypeError, NotFoundError, RefusedError, UnknownCallError, SettingsError, ServiceError
        As `task_list`.
    """
    keys = [as_text("each of by", one) for one in several("by", by)]
    for key in keys:
        if key not in _KEYS:
            raise RefusedError(f"by: {key!r} is not one of {', '.join(_KEYS)}.")
    chosen = None if batch is None else as_text("batch", batch)
    period = as_utc("since", since), as_utc("until", until)
    with open_reader() as group:
        return [Usage.of(row) for row in group.usage(keys, *period, chosen)]


def group_nodes() -> list[Node]:
    """Return the machines of the group, sorted by name.

    Returns
    -------
    list of Node

    Raises
    ------
    SettingsError, ServiceError
        A setting is missing or wrong, or the queue failed.
    """
    with open_reader() as group:
        return [Node.of(entry) for entry in group.nodes()]
