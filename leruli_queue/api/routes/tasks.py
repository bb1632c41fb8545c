"""Submit jobs, ask for their status, cancel them."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import ValidationError

from leruli_queue.access.authenticate import User, authenticate_user
from leruli_queue.api.context import ContextDep
from leruli_queue.api.errors import sentence_of
from leruli_queue.api.schemas import PROBLEMS, BulkAnswer, OneJob, Problem, StatusAnswer, TaskSubmit
from leruli_queue.errors import UserReportableError
from leruli_queue.jobs.cancel import cancel_job
from leruli_queue.jobs.intake import NewJob, take_in
from leruli_queue.jobs.status import Status, job_status, parse_job_id
from leruli_queue.settings import Settings

router = APIRouter(tags=["tasks"], responses=PROBLEMS)

_CANNOT_RUN_YET = (
    "The group has no compute secret yet, so no machine could run this job. An admin of the group "
    "sets it with group-rotate-compute-secret."
)


@router.post("/task-submit", responses={412: {"model": Problem, "description": _CANNOT_RUN_YET}})
async def task_submit(body: TaskSubmit, context: ContextDep) -> str:
    """Submit one job and answer its id. The same bucket again answers the same id."""
    job = _within_limits(body.new_job(), context.settings)
    async with context.pool.acquire() as connection:
        user = _able_to_submit(await authenticate_user(connection, body.secret))
        [job_id] = await take_in(connection, [(user, job)])
    return str(job_id)


@router.post("/bulk/task-submit")
async def bulk_task_submit(bodies: list[dict[str, Any]], context: ContextDep) -> list[BulkAnswer]:
    """Submit many jobs. The answers are in order; a refused job does not stop the others."""
    if len(bodies) > context.settings.max_bulk:
        raise UserReportableError(
            f"One post may hold {context.settings.max_bulk} jobs; this one has {len(bodies)}.",
            status=422,
        )
    answers: dict[int, BulkAnswer] = {}
    accepted: list[tuple[int, User, NewJob]] = []
    users: dict[str, User | UserReportableError] = {}
    async with context.pool.acquire() as connection:
        for position, body in enumerate(bodies):
            try:
                parsed = TaskSubmit.model_validate(body)
                job = _within_limits(parsed.new_job(), context.settings)
            except ValidationError as error:
                answers[position] = BulkAnswer(status=422, data=sentence_of(error.errors()))
                continue
            except UserReportableError as error:
                answers[position] = BulkAnswer(status=error.status, data=error.message)
                continue
            if parsed.secret not in users:
                try:
                    user = await authenticate_user(connection, parsed.secret)
                    users[parsed.secret] = _able_to_submit(user)
                except UserReportableError as error:
                    users[parsed.secret] = error
            match users[parsed.secret]:
                case UserReportableError() as refusal:
                    answers[position] = BulkAnswer(status=refusal.status, data=refusal.message)
                case user:
                    accepted.append((position, user, job))
        if accepted:
            job_ids = await take_in(connection, [(user, job) for _, user, job in accepted])
            for (position, _, _), job_id in zip(accepted, job_ids, strict=True):
                answers[position] = BulkAnswer(status=200, data=str(job_id))
    return [answers[position] for position in range(len(bodies))]


@router.post("/task-status", responses={404: {"model": Problem}})
async def task_status(body: OneJob, context: ContextDep) -> StatusAnswer:
    """Answer where a job is."""
    async with context.pool.acquire() as connection:
        user = await authenticate_user(connection, body.secret)
        return _answer(await job_status(connection, user, parse_job_id(body.jobid)))


@router.post("/task-cancel", responses={404: {"model": Problem}})
async def task_cancel(body: OneJob, context: ContextDep) -> StatusAnswer:
    """Cancel a job and answer where it is then."""
    async with context.pool.acquire() as connection:
        user = await authenticate_user(connection, body.secret)
        return _answer(await cancel_job(connection, user, parse_job_id(body.jobid)))


def _answer(status: Status) -> StatusAnswer:
    return StatusAnswer(status=status.state, reason=status.reason)


def _able_to_submit(user: User) -> User:
    if not user.group_has_compute_secret:
        raise UserReportableError(_CANNOT_RUN_YET, status=412)
    return user


def _within_limits(job: NewJob, settings: Settings) -> NewJob:
    for name, asked, most in (
        ("cores", job.cores, settings.max_cores),
        ("memorymb", job.memory_mb, settings.max_memory_mb),
        ("timelimit", job.time_limit_s, settings.max_time_limit_s),
    ):
        if asked > most:
            raise UserReportableError(
                f"Parameter {name}: {asked} is more than this service takes ({most}).", status=422
            )
    return job
