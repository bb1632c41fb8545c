"""Bodies and answers of the calls about many jobs."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from leruli_queue.api.schemas.common import Body, Label, Limit, Time, WithSecret, given
from leruli_queue.api.schemas.tasks import Bucket, StatusAnswer
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


class UserFilter(CancelFilter):
    """Which jobs of another user."""

    user: Label = Field(description="Name of the user, revoked or not.")


class BulkCancel(WithSecret):
    """Jobs to cancel: these, or all own ones in some states, or for admins those of a user.

    An older service knows no `userfilter` and refuses the body, where a field of `filter` would be
    ignored and the admin's own jobs cancelled.
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
