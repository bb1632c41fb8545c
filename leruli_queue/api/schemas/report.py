"""Body and answer of task-report: what jobs that ended used, beside what they asked for."""

from __future__ import annotations

from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, model_validator

from leruli_queue.api.schemas.bulk import JobIds
from leruli_queue.api.schemas.common import Limit, WithSecret, given
from leruli_queue.jobs.measured import ReportedJob
from leruli_queue.jobs.states import JobState


class TaskReport(WithSecret):
    """Which of the user's own jobs to report on: some by id, or those of a batch."""

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [
                given("jobids", type_="array", but_not=("batchid",)),
                given("batchid", but_not=("jobids",)),
            ]
        }
    )

    jobids: JobIds | None = Field(
        None, fail_fast=True, description="At most LERULI_QUEUE_MAX_BULK."
    )
    batchid: UUID | None = None
    limit: Limit = Field(1000, description="Most jobs of a page of a batch.")
    after: UUID | None = Field(None, description="Of a batch: the `next` of the page before.")

    @model_validator(mode="after")
    def _one_of_both(self) -> TaskReport:
        if (self.jobids is None) == (self.batchid is None):
            raise ValueError("give either jobids or batchid")
        return self


class Used(BaseModel):
    """What the last attempt of a job used. Null: its node did not measure it."""

    queueseconds: float | None = Field(
        description="From the submission until this attempt was handed to Nomad or a slot."
    )
    placeseconds: float | None = Field(description="From then until its node began with it.")
    imageseconds: float | None
    inputseconds: float | None
    wallseconds: float | None = Field(description="Of the command.")
    outputseconds: float | None
    cpuseconds: float | None
    peakmemorymb: int | None = Field(description="With page cache, as the kernel counts it.")
    peaknocachemb: int | None = Field(description="Without page cache.")
    diskmb: int | None


class ReportOfJob(BaseModel):
    """A job that has ended: what it asked for, and what its last attempt used."""

    jobid: UUID
    name: str
    code: str
    version: str
    state: JobState
    attempts: int
    outcome: str | None = Field(description="Of the last attempt. Null: it sent no receipt.")
    cores: int
    memorymb: int = Field(description="Of the last attempt, if a retry rule raised it.")
    timelimit: int = Field(description="Seconds, likewise.")
    diskmb: int | None = Field(description="Null: it asked for no limit and had the default.")
    used: Used

    @classmethod
    def of(cls, job: ReportedJob) -> ReportOfJob:
        """Return the answer about a job."""
        used = job.measured
        return cls(
            jobid=job.id,
            name=job.name,
            code=job.code,
            version=job.version,
            state=job.state,
            attempts=job.attempts,
            outcome=job.outcome,
            cores=job.cores,
            memorymb=job.memory_mb,
            timelimit=job.time_limit_s,
            diskmb=job.disk_limit_mb,
            used=Used(
                queueseconds=used.queue_s,
                placeseconds=used.place_s,
                imageseconds=used.image_s,
                inputseconds=used.input_s,
                wallseconds=used.wall_s,
                outputseconds=used.output_s,
                cpuseconds=used.cpu_s,
                peakmemorymb=used.peak_memory_mb,
                peaknocachemb=used.peak_no_cache_mb,
                diskmb=used.disk_mb,
            ),
        )


class TaskReportAnswer(BaseModel):
    """Jobs that have ended. Others that were asked for are left out."""

    jobs: list[ReportOfJob]
    next: UUID | None = Field(description="Send it as `after` for the next page. Null: the last.")
