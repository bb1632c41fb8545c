"""Bodies and answers of the calls about many jobs."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from leruli_queue.api.schemas.common import Body, Label, Limit, Time, WithSecret, given
from leruli_queue.api.schemas.tasks import Bucket, StatusAnswer
from leruli_queue.jobs.states import JobState

# fail_fast: to collect an error for each of a million entries takes a minute and gigabytes.
JobIds = list[Annotated[str, StringConstraints(max_length=100)]]


class BulkStatus(WithSecret):
    """Jobs whose status is asked for."""

    jobids: JobIds = Field(fail_fast=True, description="At most LERULI_QUEUE_MAX_BULK.")


class StatusEntry(BaseModel):
    """The answer about one of many jobs."""

    status: int = Field(description="200; 404 for an unknown job, or one that you may not see.")
    data: StatusAnswer | str = Field(description="The job's status, or a sentence.")


class BulkFind(WithSecret):
    """Buckets whose jobs are asked for."""

    bucketids: list[Bucket] = Field(fail_fast=True, description="At most LERULI_QUEUE_MAX_BULK.")


class FoundEntry(BaseModel):
    """The answer about one of many buckets. It does not name the bucket."""

    status: int = Field(description="200; 404 if no job of yours was submitted with the bucket.")
    data: str = Field(description="The job id, or a sentence.")


Cancellable = Literal[JobState.RECEIVED, JobState.SUBMITTED, JobState.RUNNING]


class CancelFilter(Body):
    """The user's own jobs in these states."""

    states: list[Cancellable] = Field(min_length=1, max_length=len(JobState))


class UserFilter(CancelFilter):
    """Another user's jobs in these states."""

    user: Label = Field(description="Name of the user, revoked or not.")


class BulkCancel(WithSecret):
    """Jobs to cancel: by id, or own jobs by state, or for admins those of a user by state.

    An older service does not know `userfilter` and refuses the body. It would ignore a new field
    inside `filter` and cancel the admin's own jobs.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [
                given("jobids", type_="array", but_not=("filter", "userfilter")),
                given("filter", type_="object", but_not=("jobids", "userfilter")),
                given("userfilter", type_="object", but_not=("jobids", "filter")),
            ]
        }
    )

    jobids: JobIds | None = Field(
        None, fail_fast=True, description="At most LERULI_QUEUE_MAX_BULK."
    )
    filter: CancelFilter | None = None
    userfilter: UserFilter | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> BulkCancel:
        if [self.jobids, self.filter, self.userfilter].count(None) != 2:
            raise ValueError("give either jobids or filter or userfilter")
        return self


class CancelledAnswer(BaseModel):
    """The result of a cancellation by filter. Repeat the call until both numbers are 0."""

    cancelled: int = Field(description="Jobs that had not started; they are cancelled now.")
    stopping: int = Field(description="Jobs that are being stopped.")


class TaskList(WithSecret):
    """Which of the user's own jobs to list."""

    states: list[JobState] | None = Field(None, max_length=len(JobState))
    batchid: UUID | None = Field(None, description="Only jobs of this batch.")
    since: Time | None = Field(None, description="Jobs received at this time or later.")
    until: Time | None = Field(None, description="Jobs received before this time.")
    limit: Limit = 100
    after: UUID | None = Field(None, description="The `next` of the page before.")
