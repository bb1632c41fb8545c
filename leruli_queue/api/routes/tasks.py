"""Calls about one job, and submissions: check, submit, status, bucket, detail, cancel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter
from pydantic import FailFast, ValidationError

from leruli_queue.access.authorise import authorise_user
from leruli_queue.access.roles import Call
from leruli_queue.api.context import AddressDep, ContextDep
from leruli_queue.api.errors import sentence_of
from leruli_queue.api.schemas.common import CancelProblem, problems
from leruli_queue.api.schemas.tasks import (
    BucketAnswer,
    BulkAnswer,
    CheckedJob,
    CheckEntry,
    DetailAnswer,
    FollowAnswer,
    OneJob,
    StatusAnswer,
    TaskBucket,
    TaskCheck,
    TaskSubmit,
    UnparsedTaskSubmit,
    WantedJob,
)
from leruli_queue.errors import UserReportableError
from leruli_queue.jobs.bucket import job_bucket
from leruli_queue.jobs.cancel import cancel_job
from leruli_queue.jobs.detail import job_detail
from leruli_queue.jobs.follow import follow_job
from leruli_queue.jobs.intake import NewJob
from leruli_queue.jobs.reasons import Capacity, living_capacity
from leruli_queue.jobs.status import Status, job_status, parse_job_id
from leruli_queue.jobs.submission import (
    CANNOT_RUN_YET,
    Submission,
    able_to_submit,
    submit_many,
    submit_one,
    within_limits,
)
from leruli_queue.settings import Settings

router = APIRouter(tags=["tasks"], responses=problems())

_NOT_SUBMITTED = {
    409: "The bucket has the job of another user of the group, or another job of one's own.",
    412: CANNOT_RUN_YET,
}
# The bucket of a job that is only checked.
_NO_BUCKET = ""
_UNKNOWN_JOB = {404: "No such job, or not one that you may see."}


@router.post(f"/{Call.TASK_CHECK}", responses=problems({412: CANNOT_RUN_YET}))
async def task_check(body: TaskCheck, context: ContextDep) -> list[CheckEntry]:
    """Answer for each job whether a submission would refuse it, and whether a machine can hold it.

    Nothing is stored. A client calls this before it uploads anything.
    """
    checked = [_checked(job, context.settings) for job in body.jobs]
    async with context.reading() as connection:
        user = await authorise_user(connection, Call.TASK_CHECK, body.secret)
        capacity = await living_capacity(connection, able_to_submit(user).group_id)
    return [
        CheckEntry(status=400, data=job)
        if isinstance(job, str)
        else CheckEntry(
            status=200,
            data=CheckedJob(
                warnings=_warnings(capacity, job),
                shmmb=job.shm_mb,
                retry=job.retry and job.retry.most_retries,
            ),
        )
        for job in checked
    ]


@router.post(f"/{Call.TASK_SUBMIT}", responses=problems(_NOT_SUBMITTED))
async def task_submit(body: TaskSubmit, context: ContextDep) -> str:
    """Submit one job and answer its id. The same job with the same bucket gets the same id."""
    submission = _submission(body, context.settings)
    async with context.reading() as connection:
        return str(await submit_one(connection, context.backlog, submission))


@router.post(f"/{Call.BULK_TASK_SUBMIT}")
async def bulk_task_submit(
    bodies: Annotated[list[UnparsedTaskSubmit], FailFast()],
    context: ContextDep,
    address: AddressDep,
) -> list[BulkAnswer]:
    """Submit many jobs. The answers are in order; a refused job does not stop the others."""
    parsed = _submissions(bodies, context.settings)
    submissions = [entry for entry in parsed if isinstance(entry, Submission)]
    async with context.reading() as connection:
        submitted = await submit_many(connection, context.backlog, submissions)
    if submitted.wrong_key_ids:
        await context.throttle.hold_back(address, submitted.wrong_key_ids)
    results = iter(submitted.results)
    return [
        _bulk_answer(next(results)) if isinstance(entry, Submission) else entry for entry in parsed
    ]


@router.post(f"/{Call.TASK_STATUS}", responses=problems(_UNKNOWN_JOB))
async def task_status(body: OneJob, context: ContextDep) -> StatusAnswer:
    """Answer the status of a job."""
    async with context.reading() as connection:
        user = await authorise_user(connection, Call.TASK_STATUS, body.secret)
        return _answer(await job_status(connection, user, parse_job_id(body.jobid)))


@router.post(f"/{Call.TASK_FOLLOW}", responses=problems(_UNKNOWN_JOB))
async def task_follow(body: OneJob, context: ContextDep) -> FollowAnswer:
    """Have the job's node send the job's output to its bucket for the next 30 seconds.

    Repeat it every 10 seconds. Nothing changes for a job that is over.
    """
    async with context.writing() as connection:
        user = await authorise_user(connection, Call.TASK_FOLLOW, body.secret)
        followed = await follow_job(connection, user, parse_job_id(body.jobid))
    status = followed.status
    return FollowAnswer(state=status.state, attempt=followed.attempt, reason=status.reason)


@router.post(f"/{Call.TASK_CANCEL}", responses=problems(_UNKNOWN_JOB, CancelProblem))
async def task_cancel(body: OneJob, context: ContextDep) -> StatusAnswer:
    """Cancel a job and answer its status."""
    async with context.writing() as connection:
        user = await authorise_user(connection, Call.TASK_CANCEL, body.secret)
        return _answer(await cancel_job(connection, user, parse_job_id(body.jobid)))


@router.post(f"/{Call.TASK_BUCKET}", responses=problems(_UNKNOWN_JOB))
async def task_bucket(body: TaskBucket, context: ContextDep) -> BucketAnswer:
    """Answer the bucket of a job. An admin's call about another user's job is audited."""
    async with context.writing() as connection:
        user = await authorise_user(connection, Call.TASK_BUCKET, body.secret)
        job_id = parse_job_id(body.jobid)
        return BucketAnswer(bucketid=await job_bucket(connection, user, job_id, body.purpose))


@router.post(f"/{Call.TASK_DETAIL}", responses=problems(_UNKNOWN_JOB))
async def task_detail(body: OneJob, context: ContextDep) -> DetailAnswer:
    """Answer all details of a job and its attempts, but not its bucket."""
    async with context.reading() as connection:
        user = await authorise_user(connection, Call.TASK_DETAIL, body.secret)
        detail = await job_detail(connection, user, parse_job_id(body.jobid))
    return DetailAnswer.of_detail(detail)


def _checked(body: Mapping[str, Any], settings: Settings) -> NewJob | str:
    """Return a job that a submission would accept, or the sentence that refuses it."""
    try:
        return within_limits(WantedJob.model_validate(body).new_job(_NO_BUCKET), settings)
    except ValidationError as error:
        return sentence_of(error.errors())
    except UserReportableError as error:
        return error.message


def _warnings(capacity: Capacity, job: NewJob) -> list[str]:
    """Return the warnings for a job; if it fits a machine, those for its largest retry."""
    found = capacity.warnings(job.cores, job.memory_mb)
    if found or job.retry is None:
        return found
    return capacity.retry_warnings(job.cores, job.retry.largest_memory_mb(job.memory_mb))


def _submission(body: TaskSubmit, settings: Settings) -> Submission:
    return Submission(body.secret, within_limits(body.new_job(body.bucketid), settings))


def _submissions(
    bodies: Sequence[Mapping[str, Any]], settings: Settings
) -> list[Submission | BulkAnswer]:
    """Return a submission for each job, or the answer that refuses it.

    Raises
    ------
    UserReportableError
        422 when one request has too many jobs or too many secrets.
    """
    if len(bodies) > settings.max_bulk:
        raise UserReportableError(
            f"One request may hold {settings.max_bulk} jobs; this one has {len(bodies)}.",
            status=422,
        )
    parsed: list[Submission | BulkAnswer] = []
    for body in bodies:
        try:
            parsed.append(_submission(TaskSubmit.model_validate(body), settings))
        except ValidationError as error:
            parsed.append(BulkAnswer(status=422, data=sentence_of(error.errors())))
        except UserReportableError as error:
            parsed.append(_bulk_answer(error))
    secrets = {entry.secret for entry in parsed if isinstance(entry, Submission)}
    if len(secrets) > settings.max_bulk_secrets:
        raise UserReportableError(
            f"The jobs of one request may have {settings.max_bulk_secrets} different secrets; "
            f"these have {len(secrets)}.",
            status=422,
        )
    return parsed


def _bulk_answer(result: UUID | UserReportableError) -> BulkAnswer:
    if isinstance(result, UserReportableError):
        return BulkAnswer(status=result.status, data=result.message)
    return BulkAnswer(status=200, data=str(result))


def _answer(status: Status) -> StatusAnswer:
    return StatusAnswer(status=status.state, reason=status.reason)
