"""Bodies and answers of the calls about many jobs."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from leruli_queue.api.group_schemas import Limit, Time
from leruli_queue.api.schemas import Body, Bucket, StatusAnswer, WithSecret, given
from leruli_queue.jobs.states import JobState

# To describe a fault of each of a million entries would take a minute and gigabytes: fail_fast.
JobIds = list[Annotated[str, StringConstraints(max_length=100)]]


class BulkStatus(WithSecret):
    """Jobs to ask for."""

    jobids: JobIds = Field(fail_fast=True, description="At most LERULI_QUEUE_MAX_BULK.")


class StatusEntry(BaseModel):
    """The answer about one of many jobs."""

    status: int = Field(description="200; 404 for no such job, or not one that you may see.")
    data: StatusAnswer | str = Field(description="Where the job is, or a sentence.")


class BulkFind(WithSecret):
    """Buckets of which the jobs are asked for."""

    bucketids: list[Bucket] = Field(fail_fast=True, description="At most LERULI_QUEUE_MAX_BULK.")


class FoundEntry(BaseModel):
    """The answer about one of many buckets, which it does not name."""

    status: int = Field(description="200; 404 when no job of yours was submitted with it.")
    data: str = Field(description="The job id, or a sentence.")


Cancellable = Literal[JobState.RECEIVED, JobState.SUBMITTED, JobState.RUNNING]


class CancelFilter(Body):
    """Which of the user's own jobs."""

    states: list[Cancellable] = Field(min_length=1, max_length=len(JobState))


class BulkCancel(WithSecret):
    """Jobs to cancel: these, or all own ones in some states."""

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [
                given("jobids", type_="array", but_not="filter"),
                given("filter", type_="object", but_not="jobids"),
            ]
        }
    )

    jobids: JobIds | None = Field(
        None, fail_fast=True, description="At most LERULI_QUEUE_MAX_BULK."
    )
    filter: CancelFilter | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> BulkCancel:
        if (self.jobids is None) == (self.filter is None):
            raise ValueError("give either jobids or filter")
        return self


class CancelledAnswer(BaseModel):
    """What a cancellation by a filter did; repeat the call until both are 0."""

    cancelled: int = Field(description="Jobs that are over, as they had not begun.")
    stopping: int = Field(description="Jobs that are being stopped.")


class TaskList(WithSecret):
    """Which of the user's own jobs to list."""

    states: list[JobState] | None = Field(None, max_length=len(JobState))
    since: Time | None = Field(None, description="Received then or later.")
    until: Time | None = Field(None, description="Received before.")
    limit: Limit = 100
    after: UUID | None = Field(None, description="The `next` of the page before.")
