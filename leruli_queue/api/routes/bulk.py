"""Calls about many jobs: their status, cancel them, find and list one's own jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

from fastapi import APIRouter

from leruli_queue.access.authenticate import authenticate_user
from leruli_queue.access.authorise import authorise_user
from leruli_queue.access.roles import Call
from leruli_queue.api.context import ContextDep, LongCall
from leruli_queue.api.schemas.bulk import (
    BulkCancel,
    BulkFind,
    BulkStatus,
    CancelledAnswer,
    FoundEntry,
    StatusEntry,
    TaskList,
)
from leruli_queue.api.schemas.common import problems
from leruli_queue.api.schemas.groups import ActivityAnswer
from leruli_queue.api.schemas.report import ReportOfJob, TaskReport, TaskReportAnswer
from leruli_queue.api.schemas.tasks import (
    ActivityJob,
    ResolveAnswer,
    ResolvedJob,
    StatusAnswer,
    TaskResolve,
)
from leruli_queue.errors import UserReportableError
from leruli_queue.jobs.batches import find_batch
from leruli_queue.jobs.bucket import jobs_of_buckets
from leruli_queue.jobs.cancel import cancel_jobs, cancel_named, cancel_own
from leruli_queue.jobs.listing import Filter, batches_page, users_page
from leruli_queue.jobs.measured import report_of_batch, report_of_jobs
from leruli_queue.jobs.resolve import resolve
from leruli_queue.jobs.states import JobState
from leruli_queue.jobs.status import Status, UnknownJobError, job_statuses, parse_job_id
from leruli_queue.settings import Settings

router = APIRouter(tags=["tasks"], responses=problems())

_UNKNOWN = UnknownJobError()
_UNKNOWN_BATCH = {404: "No such batch, or not one of yours."}
_NOT_SUBMITTED = "No job of yours was submitted with this bucket."


@router.post(f"/{Call.BULK_TASK_STATUS}")
async def bulk_task_status(body: BulkStatus, context: ContextDep) -> list[StatusEntry]:
    """Answer the status of each of many jobs, in order."""
    job_ids = parsed(body.jobids, context.settings)
    async with context.reading() as connection:
        user = await authorise_user(connection, Call.BULK_TASK_STATUS, body.secret)
        found = await job_statuses(connection, user, _known(job_ids))
    return _entries(job_ids, found)


@router.post(
    f"/{Call.BULK_TASK_CANCEL}",
    responses=problems({404: "Nobody in the group ever had the name of `userfilter`."}),
)
async def bulk_task_cancel(
    body: BulkCancel, context: ContextDep
) -> list[StatusEntry] | CancelledAnswer:
    """Cancel many jobs.

    With `jobids` the answer is the status of each job, in order. With `filter` it is the number of
    own jobs that were cancelled; with `userfilter`, for admins, the number of another user's jobs.
    """
    job_ids = parsed(body.jobids or [], context.settings)
    async with context.reading() as connection:
        # Without a lock on the secret: authorise_user takes it below, where jobs are cancelled.
        asking = await authenticate_user(connection, body.secret)
    async with (
        context.long_call(LongCall.CANCEL, asking.group_id),
        context.writing() as connection,
    ):
        user = await authorise_user(connection, Call.BULK_TASK_CANCEL, body.secret)
        if body.filter is not None:
            done = await cancel_own(connection, user, body.filter.states)
            return CancelledAnswer(cancelled=done.cancelled, stopping=done.stopping)
        if body.userfilter is not None:
            wanted = body.userfilter
            done = await cancel_named(connection, user, wanted.user, wanted.states)
            return CancelledAnswer(cancelled=done.cancelled, stopping=done.stopping)
        found = await cancel_jobs(connection, user, _known(job_ids))
    return _entries(job_ids, found)


@router.post(f"/{Call.BULK_TASK_FIND}")
async def bulk_task_find(body: BulkFind, context: ContextDep) -> list[FoundEntry]:
    """Answer the user's own job of each of many buckets, in order.

    For a client that ended before it read the answer to a submission.
    """
    _check_length(body.bucketids, "buckets", context.settings)
    async with context.reading() as connection:
        user = await authorise_user(connection, Call.BULK_TASK_FIND, body.secret)
        found = await jobs_of_buckets(connection, user, set(body.bucketids))
    return [
        FoundEntry(status=200, data=str(found[bucket]))
        if bucket in found
        else FoundEntry(status=404, data=_NOT_SUBMITTED)
        for bucket in body.bucketids
    ]


@router.post(f"/{Call.TASK_RESOLVE}")
async def task_resolve(body: TaskResolve, context: ContextDep) -> ResolveAnswer:
    """Find the user's own jobs by a name or a part of an id."""
    async with context.reading() as connection:
        asking = await authenticate_user(connection, body.secret)
    async with (
        context.long_call(LongCall.ACTIVITY, asking.group_id),
        context.reading() as connection,
    ):
        user = await authorise_user(connection, Call.TASK_RESOLVE, body.secret)
        jobs, more = await resolve(connection, user, body.reference, body.limit)
    return ResolveAnswer(jobs=[ResolvedJob.of(job) for job in jobs], more=more)


@router.post(f"/{Call.TASK_LIST}", responses=problems(_UNKNOWN_BATCH))
async def task_list(body: TaskList, context: ContextDep) -> ActivityAnswer:
    """List the user's own jobs, newest first."""
    states = tuple(JobState) if body.states is None else tuple(body.states)
    wanted = Filter(states, body.since, body.until, body.after)
    async with context.reading() as connection:
        user = await authorise_user(connection, Call.TASK_LIST, body.secret)
        if body.batchid is None:
            jobs = await users_page(connection, user.group_id, [user.id], wanted, body.limit)
        else:
            batch = await find_batch(connection, user, body.batchid)
            jobs = await batches_page(connection, user.group_id, [batch.number], wanted, body.limit)
    return ActivityAnswer(
        jobs=[ActivityJob.of(job) for job in jobs],
        next=jobs[-1].id if len(jobs) == body.limit else None,
    )


@router.post(
    f"/{Call.TASK_REPORT}",
    responses=problems({404: "No such batch, or not one of yours; or `after` is not of it."}),
)
async def task_report(body: TaskReport, context: ContextDep) -> TaskReportAnswer:
    """Answer what the user's own jobs used that have ended, beside what they asked for."""
    job_ids = parsed(body.jobids or [], context.settings)
    async with context.reading() as connection:
        user = await authorise_user(connection, Call.TASK_REPORT, body.secret)
        if body.batchid is None:
            known = list(dict.fromkeys(job_id for job_id in job_ids if job_id is not None))
            jobs, is_full = await report_of_jobs(connection, user, known), False
        else:
            jobs = await report_of_batch(connection, user, body.batchid, body.after, body.limit)
            is_full = len(jobs) == body.limit
    return TaskReportAnswer(
        jobs=[ReportOfJob.of(job) for job in jobs], next=jobs[-1].id if is_full else None
    )


def _check_length(asked: Sequence[str], what: str, settings: Settings) -> None:
    if len(asked) > settings.max_bulk:
        raise UserReportableError(
            f"One request may hold {settings.max_bulk} {what}; this one has {len(asked)}.",
            status=422,
        )


def parsed(texts: Sequence[str], settings: Settings) -> list[UUID | None]:
    """Parse job ids; None for a text that cannot be a job id."""
    _check_length(texts, "job ids", settings)
    job_ids: list[UUID | None] = []
    for text in texts:
        try:
            job_ids.append(parse_job_id(text))
        except UnknownJobError:
            job_ids.append(None)
    return job_ids


def _known(job_ids: Sequence[UUID | None]) -> set[UUID]:
    return {job_id for job_id in job_ids if job_id is not None}


def _entries(job_ids: Sequence[UUID | None], found: Mapping[UUID, Status]) -> list[StatusEntry]:
    entries = []
    for job_id in job_ids:
        status = None if job_id is None else found.get(job_id)
        if status is None:
            entries.append(StatusEntry(status=_UNKNOWN.status, data=_UNKNOWN.message))
        else:
            answer = StatusAnswer(status=status.state, reason=status.reason)
            entries.append(StatusEntry(status=200, data=answer))
    return entries
