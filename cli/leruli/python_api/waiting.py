"""Waiting for jobs, and the events of one's jobs, from Python."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from leruli import settings
from leruli.cancellation import CheckCancelled, never_cancelled
from leruli.errors import LeruliError, RefusedError
from leruli.jobs.wait import Wait
from leruli.python_api.arguments import Folder, as_states, as_text
from leruli.python_api.batch_names import batch_id
from leruli.python_api.job import JobStatus, moment, read_answer
from leruli.python_api.jobs import task_status_many
from leruli.service.queue_client import EventPage, JobState, QueueClient
from leruli.wording import counted

_WAIT_S = 45.0


@dataclass(frozen=True)
class JobEvent:
    """A job's change of state."""

    jobid: str
    name: str  #: of its folder, or as given at the submission
    bucket: str
    state: str  #: one of the six states of a job
    reason: str | None  #: why, in a sentence
    exit_code: int | None  #: exit code of the command
    attempt: int  #: number of the job's attempt
    at: datetime | None  #: when the state changed
    number: int  #: of two events of one job, the one with the higher number is the later one
    cursor: str  #: `events(cursor)` begins with this event, or with a few events before it
    batch_id: str | None  #: of the job's batch; None: it has none
    batch_name: str | None

    @classmethod
    def of(cls, answer: dict[str, Any], cursor: str) -> JobEvent:
        """Read an event of the service. Raises ServiceError."""
        return read_answer(
            lambda: cls(
                jobid=str(answer["jobid"]),
                name=answer["name"],
                bucket=answer["bucketid"],
                state=answer["state"],
                reason=answer.get("reason"),
                exit_code=answer.get("exitcode"),
                attempt=answer["attempt"],
                at=moment(answer.get("at")),
                number=int(answer["number"]),
                cursor=cursor,
                batch_id=answer.get("batchid"),
                batch_name=answer.get("batchname"),
            )
        )


def wait(jobs: Iterable[Folder], timeout: float | None = None) -> list[JobStatus]:
    """Wait until all jobs are over, and return their states.

    Parameters
    ----------
    jobs
        Ids, names and folders in any order, each as for `task_status`.
    timeout
        Seconds to wait at most; None: as long as it takes.

    Returns
    -------
    list of JobStatus
        One for each job, in the same order. After `timeout` some may still be active.

    Raises
    ------
    TypeError
        `jobs` is no list of texts or paths.
    SettingsError, ServiceError
        A setting is missing or wrong, or the queue failed at the first call.
    """
    return waited(jobs, timeout)


def waited(
    jobs: Iterable[Folder],
    timeout: float | None,
    check_cancelled: CheckCancelled = never_cancelled,
) -> list[JobStatus]:
    """Wait as `wait` does, until `check_cancelled` raises StoppedError."""
    until = _until(timeout)
    statuses = task_status_many(jobs)
    ended: dict[str, JobState | LeruliError] = {}
    for some in _ends(statuses, until, check_cancelled, is_eager=False):
        ended.update(some)
    return [_updated(one, ended) for one in statuses]


def as_completed(jobs: Iterable[Folder], timeout: float | None = None) -> Iterator[JobStatus]:
    """Yield the state of each job as soon as it is over.

    Parameters
    ----------
    jobs, timeout
        As for `wait`.

    Returns
    -------
    iterator of JobStatus
        Jobs without a state to wait for ("unknown", "not submitted") come first.

    Raises
    ------
    TimeoutError
        Some jobs are not over after `timeout`. Raised while the iterator is used.
    TypeError, SettingsError, ServiceError
        As `wait`.
    """
    return completed(jobs, timeout)


def completed(
    jobs: Iterable[Folder],
    timeout: float | None,
    check_cancelled: CheckCancelled = never_cancelled,
) -> Iterator[JobStatus]:
    """Yield as `as_completed` does, until `check_cancelled` raises StoppedError."""
    until = _until(timeout)
    statuses = task_status_many(jobs)

    def over_one_by_one() -> Iterator[JobStatus]:
        left = [one for one in statuses if one.is_active]
        yield from (one for one in statuses if not one.is_active)
        for some in _ends(left, until, check_cancelled, is_eager=True):
            over = [one for one in left if one.jobid in some]
            left = [one for one in left if one.jobid not in some]
            for one in over:
                yield _updated(one, some)
        if left:
            raise TimeoutError(f"Not over yet: {len(left)} of {counted(len(statuses), 'job')}.")

    return over_one_by_one()


def events(
    cursor: str | None = None,
    *,
    states: str | Iterable[str] | None = None,
    batch: str | None = None,
    timeout: float | None = None,
) -> Iterator[JobEvent]:
    """Yield changes of the states of the caller's own jobs as they happen.

    Parameters
    ----------
    cursor
        The `cursor` of the last event that was handled; None: begin now. The events of one answer
        share a cursor, which is where the answer began. So some events may come again.
    states
        Only changes to this state, or to one of these states.
    batch
        Only changes of jobs of this batch: its id, four or more of its first digits, or its name.
    timeout
        End after so many seconds; None: never.

    Returns
    -------
    iterator of JobEvent
        It waits for the next event while it is used.

    Raises
    ------
    OldCursorError
        Events after the cursor were deleted. Read the states with `task_status_many`, and begin
        without a cursor.
    UnknownCallError
        The queue is older than this client, and has no events or cannot choose by batch.
    NotFoundError
        There is no such batch.
    TypeError, RefusedError, SettingsError, ServiceError
        An argument or a setting is wrong, or the queue failed.
    """
    return followed(cursor, states, batch, timeout)


def followed(
    cursor: str | None,
    states: str | Iterable[str] | None,
    batch: str | None,
    timeout: float | None,
    check_cancelled: CheckCancelled = never_cancelled,
) -> Iterator[JobEvent]:
    """Yield as `events` does, until `check_cancelled` raises StoppedError."""
    until = _until(timeout)
    chosen: dict[str, Any] = {} if states is None else {"states": as_states(states)}
    start = None if cursor is None else as_text("cursor", cursor)
    connection = settings.service_settings()
    if batch is not None:
        chosen["batchid"] = batch_id(connection, batch)

    def one_by_one() -> Iterator[JobEvent]:
        with QueueClient(connection) as service:
            place = service.events(None).cursor if start is None else start
            while until is None or time.monotonic() < until:
                check_cancelled()
                left = _WAIT_S if until is None else min(_WAIT_S, until - time.monotonic())
                page: EventPage = service.events(place, max(0.0, left), **chosen)
                for event in page.events:
                    yield JobEvent.of(event, place)
                place = page.cursor

    return one_by_one()


def _ends(
    statuses: list[JobStatus],
    until: float | None,
    check_cancelled: CheckCancelled,
    *,
    is_eager: bool,
) -> Iterator[dict[str, JobState | LeruliError]]:
    jobids = [one.jobid for one in statuses if one.is_active and one.jobid is not None]
    left = None if until is None else max(0.0, until - time.monotonic())
    with QueueClient(settings.service_settings()) as service:
        waiting = Wait(
            service, jobids, timeout_s=left, is_eager=is_eager, check_cancelled=check_cancelled
        )
        for some in waiting.ends():
            yield dict(some)


def _updated(one: JobStatus, ended: dict[str, JobState | LeruliError]) -> JobStatus:
    state = ended.get(one.jobid or "")
    if state is None:
        return one
    if isinstance(state, LeruliError):
        return JobStatus(one.job, one.jobid, "unknown", str(state), None)
    if one.state != one.job_state:  # a copied or edited folder
        return JobStatus(one.job, one.jobid, one.state, one.reason, state.status)
    return JobStatus(one.job, one.jobid, state.status, state.reason, state.status)


def _until(timeout: float | None) -> float | None:
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise TypeError(f"timeout has to be a number of seconds, not {timeout!r}.")
    if timeout < 0:
        raise RefusedError(f"timeout must be at least 0, not {timeout}.")
    return time.monotonic() + timeout
