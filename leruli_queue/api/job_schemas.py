"""Bodies and answers of the calls about a job that is not submitted yet, or that is looked up."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, Field

from leruli_queue.api.group_schemas import ActivityJob
from leruli_queue.api.schemas import A_NUMBER, Label, UnparsedWantedJob, WithSecret
from leruli_queue.jobs.detail import Attempt, AttemptState, JobDetail
from leruli_queue.jobs.resolve import FoundJob
from leruli_queue.jobs.states import JobState

MAX_CHECKED = 1000
"""Jobs in one task-check."""


class TaskCheck(WithSecret):
    """Jobs that are to be submitted later."""

    jobs: list[UnparsedWantedJob] = Field(fail_fast=True, max_length=MAX_CHECKED)


class CheckedJob(BaseModel):
    """A job that a submission would take."""

    warnings: list[str] = Field(description="Sentences: no machine of the group can hold it now.")
    shmmb: int | None = Field(
        description="As asked. A service that ignores the field, an older one, answers none."
    )


class CheckEntry(BaseModel):
    """The answer about one of many jobs."""

    status: int = Field(description="200, or 400 for what a submission would refuse.")
    data: CheckedJob | str = Field(description="The warnings, or why it would be refused.")


class TaskResolve(WithSecret):
    """What a person calls a job."""

    reference: Label = Field(
        min_length=1,
        description="The job's name, or 4 or more digits that its id begins or ends with.",
    )
    limit: Annotated[int, Field(ge=1, le=20), A_NUMBER] = 20


class ResolvedJob(BaseModel):
    """A job that the reference can mean."""

    jobid: UUID
    name: str
    state: JobState
    receivedat: datetime

    @classmethod
    def of(cls, job: FoundJob) -> ResolvedJob:
        """Return what is answered about a job that was found."""
        return cls(jobid=job.id, name=job.name, state=job.state, receivedat=job.received_at)


class ResolveAnswer(BaseModel):
    """The user's own jobs that a reference can mean, newest first."""

    jobs: list[ResolvedJob]
    more: bool = Field(description="Whether there are more than `limit`.")


class ShownAttempt(BaseModel):
    """One attempt of a job."""

    number: int = Field(description="Counted from 1.")
    node: str | None = Field(description="Name of its node; null where it has none yet.")
    state: AttemptState
    outcome: str | None = Field(description="As its node reported it; null without a report.")
    message: str | None = Field(description="What its node said, or why it was given up.")
    startedat: datetime | None = Field(description="When its node got leave to start it.")
    endedat: datetime | None
    exitcode: int | None
    peakmemorymb: int | None
    cpuseconds: float | None

    @classmethod
    def of(cls, attempt: Attempt) -> ShownAttempt:
        """Return what is answered about an attempt."""
        return cls(
            number=attempt.number,
            node=attempt.node,
            state=attempt.state,
            outcome=attempt.outcome,
            message=attempt.message,
            startedat=attempt.started_at,
            endedat=attempt.ended_at,
            exitcode=attempt.exit_code,
            peakmemorymb=attempt.peak_memory_mb,
            cpuseconds=attempt.cpu_s,
        )


class DetailAnswer(ActivityJob):
    """All that is known of a job; without its bucket."""

    attempts: list[ShownAttempt] = Field(  # type: ignore[assignment]  # lists have their number
        description="The last 100 at most, the oldest first."
    )
    timelimit: int = Field(description="Seconds.")
    priority: int
    cancelrequestedat: datetime | None
    node: str | None = Field(description="Name of the node of the last attempt that began.")
    peakmemorymb: int | None = Field(description="Of the same attempt.")
    cpuseconds: float | None = Field(description="Of the same attempt.")

    @classmethod
    def of_detail(cls, detail: JobDetail) -> DetailAnswer:
        """Return what is answered about a job."""
        ran = detail.last_run
        return cls(
            **ActivityJob.of(detail.job).model_dump(exclude={"attempts"}),
            attempts=[ShownAttempt.of(attempt) for attempt in detail.attempts],
            timelimit=detail.time_limit_s,
            priority=detail.priority,
            cancelrequestedat=detail.cancel_requested_at,
            node=ran.node if ran else None,
            peakmemorymb=ran.peak_memory_mb if ran else None,
            cpuseconds=ran.cpu_s if ran else None,
        )
