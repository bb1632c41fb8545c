"""Bodies and answers of the calls about batches."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, Field, StrictBool

from leruli_queue.api.schemas.common import Label, Limit, NoSecret, WithSecret
from leruli_queue.jobs.batches import Batch, BatchStatus, Failure
from leruli_queue.jobs.states import JobState


class OneBatch(WithSecret):
    """A call about one batch."""

    batchid: UUID


class BatchMail(OneBatch):
    """A request for mail about a batch, before its first job and after its last one."""

    # Without a pattern: a wrong address is refused in words (mail/requests.py).
    address: Annotated[str, NoSecret] = Field(
        max_length=1000,
        description="Where mail goes. The last request counts.",
    )
    complete: StrictBool = Field(
        description="Whether all jobs were submitted. Until then the batch does not end, unless "
        "no job joins it for an hour."
    )


class BatchList(WithSecret):
    """Which of the user's own batches to list."""

    reference: Label | None = Field(
        None,
        min_length=1,
        description="Only batches with this name, or whose id begins with these digits, at least "
        "4.",
    )
    limit: Limit = 100
    after: UUID | None = Field(None, description="The `next` of the page before.")


class Counts(BaseModel):
    """How many jobs are in each state."""

    received: int
    submitted: int
    running: int
    completed: int
    failed: int
    cancelled: int

    @classmethod
    def of(cls, batch: Batch) -> Counts:
        """Return the counts of a batch."""
        return cls(**{state.value: batch.counts[state] for state in JobState})


class ListedBatch(BaseModel):
    """A batch with its counts."""

    batchid: UUID
    name: str = Field(description="As its first submission gave it.")
    jobs: int
    counts: Counts
    submittedat: datetime = Field(description="When its first job was submitted.")
    lastsubmittedat: datetime | None = Field(description="When its last job was submitted.")
    firstrunningat: datetime | None = Field(description="Null while no job of it has run.")

    @classmethod
    def of(cls, batch: Batch) -> ListedBatch:
        """Return the answer about a batch of a page."""
        return cls(
            batchid=batch.id,
            name=batch.name,
            jobs=batch.jobs,
            counts=Counts.of(batch),
            submittedat=batch.submitted_at,
            lastsubmittedat=batch.last_submitted_at,
            firstrunningat=batch.first_running_at,
        )


class BatchListAnswer(BaseModel):
    """A page of own batches, newest first."""

    batches: list[ListedBatch]
    next: UUID | None = Field(description="Send it as `after` for the next page. Null: the last.")


class FailedJob(BaseModel):
    """A job of a batch that failed."""

    jobid: UUID
    name: str
    reason: str | None
    exitcode: int | None
    endedat: datetime

    @classmethod
    def of(cls, failure: Failure) -> FailedJob:
        """Return the answer about a failure."""
        return cls(
            jobid=failure.id,
            name=failure.name,
            reason=failure.reason,
            exitcode=failure.exit_code,
            endedat=failure.ended_at,
        )


class BatchStatusAnswer(ListedBatch):
    """A batch, how fast it goes, and its last failures."""

    lastendedat: datetime | None = Field(description="When the last job of it ended.")
    rate: float | None = Field(
        description="Jobs that complete or fail, a second: of the last 200, or of all if fewer "
        "ended or the batch is over. Null before the first."
    )
    expectedend: datetime | None = Field(description="At this rate. Null: nobody can tell.")
    failures: list[FailedJob] = Field(description="The last 5, newest first.")

    @classmethod
    def of_status(cls, status: BatchStatus) -> BatchStatusAnswer:
        """Return the answer about a batch."""
        return cls(
            **dict(ListedBatch.of(status.batch)),
            lastendedat=status.last_ended_at,
            rate=status.rate,
            expectedend=status.expected_end,
            failures=[FailedJob.of(failure) for failure in status.failures],
        )
