"""Batches from Python: list them, their status, cancel one, fetch the results of one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from leruli import settings
from leruli.cancellation import CheckCancelled, never_cancelled
from leruli.errors import NotFoundError
from leruli.folder.journals import find_journal
from leruli.jobs.batches import short_batch_id
from leruli.jobs.fetch import Wanted
from leruli.python_api.arguments import Folder, as_folder, as_limit, as_text
from leruli.python_api.batch_names import batch_id
from leruli.python_api.job import ManyFolders, moment, read_answer
from leruli.python_api.results import results_of
from leruli.service.batches import BatchClient
from leruli.service.states import ACTIVE
from leruli.times import parse_moment


@dataclass(frozen=True)
class Batch:
    """A batch, and how many of its jobs are in each state."""

    batch_id: str
    name: str  #: as its first submission gave it
    job_count: int
    counts: Mapping[str, int]  #: number of jobs by state, with all six states
    submitted_at: datetime  #: when its first job was submitted
    last_submitted_at: datetime | None
    first_running_at: datetime | None  #: None while no job of it has run

    @property
    def is_active(self) -> bool:
        """Whether a job of it is received, submitted or running."""
        return any(self.counts.get(state) for state in ACTIVE)

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> Batch:
        """Read a batch of a listing of the service. Raises ServiceError."""
        return read_answer(lambda: cls(**_common(answer)))


@dataclass(frozen=True)
class FailedJob:
    """A job of a batch that failed."""

    jobid: str
    name: str  #: of its folder, or as given at the submission
    reason: str | None  #: why, in a sentence
    exit_code: int | None  #: exit code of the command
    ended_at: datetime | None


@dataclass(frozen=True)
class BatchStatus(Batch):
    """A batch, how fast it goes, and its last failures."""

    last_ended_at: datetime | None  #: when the last job of it ended
    rate: float | None  #: jobs that complete or fail, a second; None before the first
    expected_end: datetime | None  #: at this rate; None: nobody can tell, or it is over
    failures: tuple[FailedJob, ...]  #: the last 5, the newest first

    @classmethod
    def of_status(cls, answer: Mapping[str, Any]) -> BatchStatus:
        """Read the answer of batch-status. Raises ServiceError."""
        return read_answer(
            lambda: cls(
                **_common(answer),
                last_ended_at=moment(answer.get("lastendedat")),
                rate=answer.get("rate"),
                expected_end=moment(answer.get("expectedend")),
                failures=tuple(_failed(one) for one in answer["failures"]),
            )
        )


@dataclass(frozen=True)
class CancelledBatch:
    """What `batch_cancel` did."""

    cancelled: int  #: jobs that had not started; they are over now
    stopping: int  #: jobs that are being stopped; they are over soon


def batch_list(*, limit: int | None = None, after: str | None = None) -> Iterator[Batch]:
    """List the caller's own batches, the newest first.

    Parameters
    ----------
    limit
        The largest number of batches; None: all.
    after
        Start after the batch with this id.

    Returns
    -------
    iterator of Batch
        It asks for further batches while it is used.

    Raises
    ------
    TypeError, RefusedError
        An argument is wrong.
    UnknownCallError
        The queue is older than this client and has no batches. Raised while the iterator is used.
    SettingsError, ServiceError
        A setting is missing or wrong, or the queue failed. Also raised while the iterator is used.
    """
    most = as_limit(limit)
    start = None if after is None else as_text("after", after)
    connection = settings.service_settings()

    def listed() -> Iterator[Batch]:
        with BatchClient(connection) as service:
            for page in service.batches(most, start):
                yield from map(Batch.of, page.entries)

    return listed()


def batch_status(batch: str) -> BatchStatus:
    """Return how far a batch is: its counts by state, its rate, and its last failures.

    Parameters
    ----------
    batch
        The id of the batch, four or more of its first digits, or its name.

    Returns
    -------
    BatchStatus

    Raises
    ------
    TypeError
        `batch` is no text.
    NotFoundError
        The caller has no such batch.
    RefusedError
        The name fits several batches; the error lists them.
    UnknownCallError
        The queue is older than this client and has no batches.
    SettingsError, ServiceError
        A setting is missing or wrong, or the queue failed.
    """
    connection = settings.service_settings()
    batchid = batch_id(connection, batch)
    with BatchClient(connection) as service:
        return BatchStatus.of_status(service.status(batchid))


def batch_cancel(batch: str) -> CancelledBatch:
    """Cancel all jobs of a batch that are not over, without a confirmation.

    Jobs that are submitted to the batch later are not cancelled.

    Parameters
    ----------
    batch
        As for `batch_status`.

    Returns
    -------
    CancelledBatch
        How many jobs were cancelled. Both numbers are 0 for a batch that is over.

    Raises
    ------
    TypeError, NotFoundError, RefusedError, UnknownCallError, SettingsError, ServiceError
        As `batch_status`.
    """
    return cancelled_batch(batch)


def cancelled_batch(
    batch: str, check_cancelled: CheckCancelled = never_cancelled
) -> CancelledBatch:
    """Cancel as `batch_cancel` does, until `check_cancelled` raises StoppedError."""
    connection = settings.service_settings()
    batchid = batch_id(connection, batch)
    cancelled = stopping = 0
    with BatchClient(connection) as service:
        for more_cancelled, more_stopping in service.cancel(batchid):
            cancelled += more_cancelled
            stopping += more_stopping
            check_cancelled()
    return CancelledBatch(cancelled, stopping)


def batch_get(
    batch: str,
    directory: Folder,
    *,
    again: bool = False,
    everything: bool = False,
    with_input: bool = False,
    overwrite: bool = False,
) -> ManyFolders:
    """Fetch the results of a batch, each job's into the folder that it was submitted from.

    Parameters
    ----------
    batch
        As for `batch_status`.
    directory
        A folder of the tree that the batch was submitted from: that with the journal of the batch
        (leruli.batch-...), one below it, or one at most two levels above it.
    again, everything, with_input, overwrite
        The same as for `task_get_many`.

    Returns
    -------
    ManyFolders
        As of `task_get_many`.

    Raises
    ------
    TypeError
        An argument is of the wrong type.
    NotFoundError
        The caller has no such batch, or no folder of the tree has its journal.
    RefusedError, UnknownCallError, SettingsError, ServiceError
        As `batch_status`.
    """
    return got_batch(batch, directory, Wanted(everything, again, overwrite, with_input))


def got_batch(
    batch: str,
    directory: Folder,
    wanted: Wanted,
    check_cancelled: CheckCancelled = never_cancelled,
) -> ManyFolders:
    """Fetch as `batch_get` does, until `check_cancelled` raises StoppedError."""
    start = as_folder("directory", directory)
    settings.require(settings.ALL)
    batchid = batch_id(settings.service_settings(), batch)
    journal = find_journal(batchid, start)
    if journal is None:
        raise NotFoundError(
            f"There is no journal of batch {short_batch_id(batchid)} (leruli.batch-...) in "
            f"{start}, in the folders above it, or in two levels below. The journal says which "
            "folders the batch has: name the tree that it was submitted from."
        )
    return results_of(journal.folders_of(batchid), wanted, check_cancelled)


def _common(answer: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "batch_id": str(answer["batchid"]),
        "name": answer["name"],
        "job_count": answer["jobs"],
        "counts": dict(answer["counts"]),
        "submitted_at": parse_moment(answer["submittedat"]),
        "last_submitted_at": moment(answer.get("lastsubmittedat")),
        "first_running_at": moment(answer.get("firstrunningat")),
    }


def _failed(answer: Mapping[str, Any]) -> FailedJob:
    return FailedJob(
        jobid=str(answer["jobid"]),
        name=answer["name"],
        reason=answer.get("reason"),
        exit_code=answer.get("exitcode"),
        ended_at=moment(answer.get("endedat")),
    )
