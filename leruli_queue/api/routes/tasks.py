"""Check and submit jobs, ask where they and their files are, cancel them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter
from pydantic import FailFast, ValidationError

from leruli_queue.access.authenticate import SecretRefusedError, User
from leruli_queue.access.authorise import authorise_user
from leruli_queue.access.roles import Call
from leruli_queue.api.context import AddressDep, ContextDep
from leruli_queue.api.errors import sentence_of
from leruli_queue.api.job_schemas import CheckedJob, CheckEntry, DetailAnswer, TaskCheck
from leruli_queue.api.limits import CANNOT_RUN_YET, able_to_submit, within_limits
from leruli_queue.api.schemas import (
    BucketAnswer,
    BulkAnswer,
    CancelProblem,
    OneJob,
    StatusAnswer,
    TaskBucket,
    TaskSubmit,
    UnparsedTaskSubmit,
    WantedJob,
    problems,
)
from leruli_queue.errors import UserReportableError
from leruli_queue.jobs.bucket import job_bucket
from leruli_queue.jobs.cancel import cancel_job
from leruli_queue.jobs.detail import job_detail
from leruli_queue.jobs.intake import BucketInUseError, NewJob, take_in
from leruli_queue.jobs.reasons import living_capacity
from leruli_queue.jobs.status import Status, job_status, parse_job_id
from leruli_queue.settings import Settings
from leruli_queue.store.pool import Connection

router = APIRouter(tags=["tasks"], responses=problems())

_NOT_SUBMITTED = {
    409: "The bucket has the job of another user of the group, or another job of one's own.",
    412: CANNOT_RUN_YET,
}
# So long as there is no bucket.
_NO_BUCKET = ""
_UNKNOWN_JOB = {404: "No such job, or not one that you may see."}


@router.post(f"/{Call.TASK_CHECK}", responses=problems({412: CANNOT_RUN_YET}))
async def task_check(body: TaskCheck, context: ContextDep) -> list[CheckEntry]:
    """Say of each job whether a submission would refuse it, and what no machine can hold now.

    Nothing is stored. A client asks this before it uploads anything.
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
            data=CheckedJob(warnings=capacity.warnings(job.cores, job.memory_mb), shmmb=job.shm_mb),
        )
        for job in checked
    ]


@router.post(f"/{Call.TASK_SUBMIT}", responses=problems(_NOT_SUBMITTED))
async def task_submit(body: TaskSubmit, context: ContextDep) -> str:
    """Submit one job and answer its id. The same job in the same bucket answers the same id."""
    job = within_limits(body.new_job(body.bucketid), context.settings)
    async with context.reading() as connection:
        user = able_to_submit(await authorise_user(connection, Call.TASK_SUBMIT, body.secret))
        await context.backlog.make_room(connection, {(user.group_id, user.id): 1})
        match (await take_in(connection, [(user, job)]))[0]:
            case None:
                raise await _refused_meanwhile(connection, Call.TASK_SUBMIT, body.secret)
            case BucketInUseError() as refusal:
                raise refusal
            case job_id:
                return str(job_id)


@router.post(f"/{Call.BULK_TASK_SUBMIT}")
async def bulk_task_submit(
    bodies: Annotated[list[UnparsedTaskSubmit], FailFast()],
    context: ContextDep,
    address: AddressDep,
) -> list[BulkAnswer]:
    """Submit many jobs. The answers are in order; a refused job does not stop the others."""
    settings = context.settings
    if len(bodies) > settings.max_bulk:
        raise UserReportableError(
            f"One post may hold {settings.max_bulk} jobs; this one has {len(bodies)}.", status=422
        )
    answers: dict[int, BulkAnswer] = {}
    asked: dict[int, tuple[str, NewJob]] = {}
    for position, body in enumerate(bodies):
        try:
            parsed = TaskSubmit.model_validate(body)
            asked[position] = (
                parsed.secret,
                within_limits(parsed.new_job(parsed.bucketid), settings),
            )
        except ValidationError as error:
            answers[position] = BulkAnswer(status=422, data=sentence_of(error.errors()))
        except UserReportableError as error:
            answers[position] = _refusal(error)
    secrets = {secret for secret, _ in asked.values()}
    if len(secrets) > settings.max_bulk_secrets:
        raise UserReportableError(
            f"The jobs of one post may have {settings.max_bulk_secrets} different secrets; these "
            f"have {len(secrets)}.",
            status=422,
        )
    async with context.reading() as connection:
        users = await _submitters(connection, secrets)
        accepted = []
        for position, (secret, job) in asked.items():
            match users[secret]:
                case UserReportableError() as refusal:
                    answers[position] = _refusal(refusal)
                case user:
                    accepted.append((position, user, job))
        if accepted:
            submitters = Counter((user.group_id, user.id) for _, user, _ in accepted)
            await context.backlog.make_room(connection, submitters)
            taken = await take_in(connection, [(user, job) for _, user, job in accepted])
            refusals: dict[str, UserReportableError] = {}
            for (position, _, _), job_id in zip(accepted, taken, strict=True):
                if isinstance(job_id, UUID):
                    answers[position] = BulkAnswer(status=200, data=str(job_id))
                    continue
                if job_id is not None:
                    answers[position] = _refusal(job_id)
                    continue
                secret, _ = asked[position]
                if secret not in refusals:
                    refusals[secret] = await _refused_meanwhile(
                        connection, Call.BULK_TASK_SUBMIT, secret
                    )
                answers[position] = _refusal(refusals[secret])
            users.update(refusals)
    wrong = [user.key_id for user in users.values() if isinstance(user, SecretRefusedError)]
    if wrong and len(wrong) == len(users):
        # With a right secret among them the jobs are in, and their ids must not be held back.
        await context.throttle.hold_back(address, wrong)
    return [answers[position] for position in range(len(bodies))]


@router.post(f"/{Call.TASK_STATUS}", responses=problems(_UNKNOWN_JOB))
async def task_status(body: OneJob, context: ContextDep) -> StatusAnswer:
    """Answer where a job is."""
    async with context.reading() as connection:
        user = await authorise_user(connection, Call.TASK_STATUS, body.secret)
        return _answer(await job_status(connection, user, parse_job_id(body.jobid)))


@router.post(f"/{Call.TASK_CANCEL}", responses=problems(_UNKNOWN_JOB, CancelProblem))
async def task_cancel(body: OneJob, context: ContextDep) -> StatusAnswer:
    """Cancel a job and answer where it is then."""
    async with context.writing() as connection:
        user = await authorise_user(connection, Call.TASK_CANCEL, body.secret)
        return _answer(await cancel_job(connection, user, parse_job_id(body.jobid)))


@router.post(f"/{Call.TASK_BUCKET}", responses=problems(_UNKNOWN_JOB))
async def task_bucket(body: TaskBucket, context: ContextDep) -> BucketAnswer:
    """Answer the bucket of a job; that an admin asked for another user's stands in the audit."""
    async with context.writing() as connection:
        user = await authorise_user(connection, Call.TASK_BUCKET, body.secret)
        job_id = parse_job_id(body.jobid)
        return BucketAnswer(bucketid=await job_bucket(connection, user, job_id, body.purpose))


@router.post(f"/{Call.TASK_DETAIL}", responses=problems(_UNKNOWN_JOB))
async def task_detail(body: OneJob, context: ContextDep) -> DetailAnswer:
    """Answer all that is known of a job, attempt by attempt; not its bucket."""
    async with context.reading() as connection:
        user = await authorise_user(connection, Call.TASK_DETAIL, body.secret)
        detail = await job_detail(connection, user, parse_job_id(body.jobid))
    return DetailAnswer.of_detail(detail)


def _checked(body: Mapping[str, Any], settings: Settings) -> NewJob | str:
    """Return a job that a submission would take, or the sentence that refuses it."""
    try:
        return within_limits(WantedJob.model_validate(body).new_job(_NO_BUCKET), settings)
    except ValidationError as error:
        return sentence_of(error.errors())
    except UserReportableError as error:
        return error.message


async def _submitters(
    connection: Connection, secrets: Iterable[str]
) -> dict[str, User | UserReportableError]:
    """Authorise each secret."""
    users: dict[str, User | UserReportableError] = {}
    for secret in secrets:
        try:
            user = await authorise_user(connection, Call.BULK_TASK_SUBMIT, secret)
            users[secret] = able_to_submit(user)
        except UserReportableError as error:
            users[secret] = error
    return users


async def _refused_meanwhile(
    connection: Connection, call: Call, secret: str
) -> UserReportableError:
    """Say why nothing was taken in under a secret that was right a moment ago."""
    try:
        await authorise_user(connection, call, secret)
    except UserReportableError as error:
        return error
    return UserReportableError(
        "The group was disabled for a moment. Nothing was taken; try again.",
        status=503,
        retry_after=1,
    )


def _refusal(error: UserReportableError) -> BulkAnswer:
    return BulkAnswer(status=error.status, data=error.message)


def _answer(status: Status) -> StatusAnswer:
    return StatusAnswer(status=status.state, reason=status.reason)
