"""Bodies and answers of the calls about one job, and of submissions."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import (
    BaseModel,
    Field,
    GetJsonSchemaHandler,
    StrictBool,
    StringConstraints,
    field_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from leruli_queue.api.schemas.common import (
    A_NUMBER,
    INT32,
    Count,
    Label,
    NoSecret,
    WithSecret,
)
from leruli_queue.api.schemas.retry import ShownRetry, WithRetryRule
from leruli_queue.jobs.bucket import Purpose
from leruli_queue.jobs.detail import Attempt, AttemptState, JobDetail
from leruli_queue.jobs.intake import CODE_VERSION_SCHEMA, NewBatch, NewJob, split_code_version
from leruli_queue.jobs.listing import ListedJob
from leruli_queue.jobs.resolve import FoundJob
from leruli_queue.jobs.states import JobState

# An S3 bucket name.
Bucket = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", max_length=63), NoSecret
]


class WantedJob(WithRetryRule):
    """A job as the client describes it before its bucket exists."""

    name: Label = Field("default", description="Free text for people.")
    codeversion: Annotated[str, NoSecret] = Field(
        max_length=200,
        description="Image to run in, `code:version`.",
        json_schema_extra=CODE_VERSION_SCHEMA,
    )
    cores: Count = 1
    memorymb: Annotated[int, Field(ge=16, le=INT32), A_NUMBER] = Field(
        4000, description="Memory limit in MB."
    )
    timelimit: Count = Field(86400, description="Time limit in seconds.")
    diskmb: Annotated[int | None, Field(ge=16, le=INT32), A_NUMBER] = Field(
        None, description="Disk limit in MB. Without it the service's default."
    )
    shmmb: Annotated[int | None, Field(ge=1, le=INT32), A_NUMBER] = Field(
        None,
        description="Size of /dev/shm in MB, at most `memorymb`: its content counts as memory. "
        "Without it Docker's default, 64 MB.",
    )
    priority: Annotated[int, Field(ge=-1000, le=1000), A_NUMBER] = Field(
        0, description="Order among the user's own jobs: the highest goes first."
    )
    sharecontainer: StrictBool = Field(
        False,
        description="Whether the job may run in the container of the user's job before it. Older "
        "services and agents ignore it.",
    )

    @field_validator("codeversion")
    @classmethod
    def _names_an_image(cls, value: str) -> str:
        split_code_version(value)
        return value

    def new_job(self, bucket: str) -> NewJob:
        """Return the job for intake."""
        code, version = split_code_version(self.codeversion)
        return NewJob(
            bucket,
            self.name,
            code,
            version,
            self.cores,
            self.memorymb,
            self.timelimit,
            self.priority,
            self.diskmb,
            self.shmmb,
            self.sharecontainer,
            retry=self.rule(self.memorymb, self.timelimit),
        )


class TaskSubmit(WantedJob, WithSecret):
    """A job that is submitted."""

    bucketid: Bucket = Field(description="Bucket with run.tgz, made before this call.")
    batchid: UUID | None = Field(
        None,
        description="Batch of the job, with an id that the client made. The first job makes it.",
    )
    batchname: Label = Field("", description="Name of the batch, if the job makes it.")

    def new_job(self, bucket: str) -> NewJob:
        """Return the job for intake, with its batch."""
        batch = None if self.batchid is None else NewBatch(self.batchid, self.batchname)
        return replace(super().new_job(bucket), batch=batch)


class _DescribedAs:
    """Describes a dict in the schema as a model.

    The route parses each job on its own, so that one wrong job does not refuse the others.
    """

    def __init__(self, model: type[BaseModel]) -> None:
        self._model = model

    def __get_pydantic_json_schema__(
        self, _schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return handler(self._model.__pydantic_core_schema__)


UnparsedTaskSubmit = Annotated[dict[str, Any], _DescribedAs(TaskSubmit)]
UnparsedWantedJob = Annotated[dict[str, Any], _DescribedAs(WantedJob)]


class BulkAnswer(BaseModel):
    """The answer to one job of a bulk submission."""

    status: int = Field(
        description="200 accepted, 403 the secret is refused, 409 the bucket has another job, 412 "
        "the group has no compute secret, 422 the job is not as described."
    )
    data: str = Field(description="The job id, or a sentence.")


class OneJob(WithSecret):
    """A call about one job."""

    jobid: str = Field(max_length=100)


class TaskBucket(OneJob):
    """A request for the bucket of a job, with its purpose."""

    purpose: Purpose = Field(
        Purpose.GET, description="For the group's audit, if the job is another user's."
    )


class BucketAnswer(BaseModel):
    """The bucket of a job."""

    bucketid: str


class StatusAnswer(BaseModel):
    """The status of a job."""

    status: JobState
    reason: str | None = Field(description="The reason of the state, in a sentence.")


class FollowAnswer(BaseModel):
    """A job whose output is followed."""

    state: JobState
    attempt: int = Field(description="The number of the current attempt; 0 before the first.")
    reason: str | None = Field(description="The reason of the state, in a sentence.")


MAX_CHECKED = 1000
"""Most jobs in one task-check."""


class TaskCheck(WithSecret):
    """Jobs that the client will submit later."""

    jobs: list[UnparsedWantedJob] = Field(fail_fast=True, max_length=MAX_CHECKED)


class CheckedJob(BaseModel):
    """A job that a submission would accept."""

    warnings: list[str] = Field(description="Sentences: no machine of the group can hold it now.")
    shmmb: int | None = Field(
        description="As asked. An older service ignores the field and does not answer it."
    )
    retry: int | None = Field(description="As for `shmmb`.")


class CheckEntry(BaseModel):
    """The answer about one of many jobs."""

    status: int = Field(description="200, or 400 if a submission would refuse the job.")
    data: CheckedJob | str = Field(description="The warnings, or the reason of the refusal.")


class TaskResolve(WithSecret):
    """A person's reference to a job."""

    reference: Label = Field(
        min_length=1,
        description="The job's name, or the first or last digits of its id, at least 4.",
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
        """Return the answer about a job that was found."""
        return cls(jobid=job.id, name=job.name, state=job.state, receivedat=job.received_at)


class ResolveAnswer(BaseModel):
    """The user's own jobs that a reference can mean, newest first."""

    jobs: list[ResolvedJob]
    more: bool = Field(description="Whether there are more than `limit`.")


class ActivityJob(BaseModel):
    """A job, without its bucket."""

    jobid: UUID
    user: str
    name: str = Field(description="The job's name, as its user gave it.")
    code: str
    version: str
    cores: int
    memorymb: int
    diskmb: int | None = Field(description="Null: it asks for no limit and has the default.")
    state: JobState
    reason: str | None
    exitcode: int | None
    attempts: int
    receivedat: datetime
    submittedat: datetime | None
    runningat: datetime | None
    endedat: datetime | None
    shmmb: int | None = Field(description="Size of /dev/shm. Null: Docker's default, 64 MB.")
    sharecontainer: bool = Field(
        description="Whether it may run in the container of the user's job before it."
    )
    batchid: UUID | None = Field(description="Its batch. Null: it has none.")
    batchname: str | None

    @classmethod
    def of(cls, job: ListedJob) -> ActivityJob:
        """Return the answer about a job of a page."""
        return cls(
            jobid=job.id,
            user=job.user,
            name=job.name,
            code=job.code,
            version=job.version,
            cores=job.cores,
            memorymb=job.memory_mb,
            diskmb=job.disk_mb,
            state=job.state,
            reason=job.reason,
            exitcode=job.exit_code,
            attempts=job.attempts,
            receivedat=job.received_at,
            submittedat=job.submitted_at,
            runningat=job.running_at,
            endedat=job.ended_at,
            shmmb=job.shm_mb,
            sharecontainer=job.share_container,
            batchid=job.batch_id,
            batchname=job.batch_name,
        )


class ShownAttempt(BaseModel):
    """One attempt of a job."""

    number: int = Field(description="Counted from 1.")
    node: str | None = Field(description="Name of its node; null while it has none.")
    state: AttemptState
    outcome: str | None = Field(description="From its receipt; null without a receipt.")
    message: str | None = Field(description="From its receipt, or why it was abandoned.")
    startedat: datetime | None = Field(description="When its start was granted to its node.")
    endedat: datetime | None
    exitcode: int | None
    peakmemorymb: int | None
    cpuseconds: float | None
    memorymb: int = Field(description="Its memory limit.")
    timelimit: int = Field(description="Its time limit in seconds.")

    @classmethod
    def of(cls, attempt: Attempt) -> ShownAttempt:
        """Return the answer about an attempt."""
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
            memorymb=attempt.memory_mb,
            timelimit=attempt.time_limit_s,
        )


class DetailAnswer(ActivityJob):
    """All details of a job; without its bucket."""

    attempts: list[ShownAttempt] = Field(  # type: ignore[assignment]  # a number in ActivityJob
        description="The last 100 attempts, the oldest first."
    )
    timelimit: int = Field(description="Seconds.")
    priority: int
    cancelrequestedat: datetime | None
    node: str | None = Field(description="Name of the node of the last attempt that started.")
    peakmemorymb: int | None = Field(description="Of the same attempt.")
    cpuseconds: float | None = Field(description="Of the same attempt.")
    retry: ShownRetry | None = Field(description="Its retry rule; null without one.")

    @classmethod
    def of_detail(cls, detail: JobDetail) -> DetailAnswer:
        """Return the answer about a job."""
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
            retry=ShownRetry.of(detail.retry) if detail.retry else None,
        )
