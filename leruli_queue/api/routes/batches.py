"""Calls about batches: list one's own, their status, cancel one, mail about one."""

from __future__ import annotations

from fastapi import APIRouter

from leruli_queue.access.authenticate import authenticate_user
from leruli_queue.access.authorise import authorise_user
from leruli_queue.access.roles import Call
from leruli_queue.api.context import ContextDep, LongCall
from leruli_queue.api.schemas.batches import (
    BatchList,
    BatchListAnswer,
    BatchMail,
    BatchStatusAnswer,
    ListedBatch,
    OneBatch,
)
from leruli_queue.api.schemas.bulk import CancelledAnswer
from leruli_queue.api.schemas.common import Nothing, problems
from leruli_queue.jobs.batches import batch_page, batch_status, cancel_batch
from leruli_queue.mail.requests import ask_for_mail

router = APIRouter(tags=["batches"], responses=problems())

_UNKNOWN = {404: "No such batch, or not one of yours."}


@router.post(f"/{Call.BATCH_LIST}")
async def batch_list(body: BatchList, context: ContextDep) -> BatchListAnswer:
    """List the user's own batches, newest first."""
    async with context.reading() as connection:
        user = await authorise_user(connection, Call.BATCH_LIST, body.secret)
        page = await batch_page(connection, user, body.reference, body.after, body.limit)
    return BatchListAnswer(
        batches=[ListedBatch.of(batch) for batch in page],
        next=page[-1].id if len(page) == body.limit else None,
    )


@router.post(f"/{Call.BATCH_STATUS}", responses=problems(_UNKNOWN))
async def get_batch_status(body: OneBatch, context: ContextDep) -> BatchStatusAnswer:
    """Answer the counts of a batch by state, its rate, and its last failures."""
    async with context.reading() as connection:
        user = await authorise_user(connection, Call.BATCH_STATUS, body.secret)
        return BatchStatusAnswer.of_status(await batch_status(connection, user, body.batchid))


@router.post(f"/{Call.BATCH_CANCEL}", responses=problems(_UNKNOWN))
async def batch_cancel(body: OneBatch, context: ContextDep) -> CancelledAnswer:
    """Cancel the jobs of a batch that are not over. Jobs that join it later are not cancelled."""
    async with context.reading() as connection:
        # Without a lock on the secret: authorise_user takes it below, where jobs are cancelled.
        asking = await authenticate_user(connection, body.secret)
    async with (
        context.long_call(LongCall.CANCEL, asking.group_id),
        context.writing() as connection,
    ):
        user = await authorise_user(connection, Call.BATCH_CANCEL, body.secret)
        done = await cancel_batch(connection, user, body.batchid)
    return CancelledAnswer(cancelled=done.cancelled, stopping=done.stopping)


@router.post(
    f"/{Call.BATCH_MAIL}",
    responses=problems({409: "This service sends no mail, or the user asked for too much."}),
)
async def batch_mail(body: BatchMail, context: ContextDep) -> Nothing:
    """Ask for mail about the end of a batch, and about its first failure.

    The batch may be unknown yet. About other people's batches there is never mail.
    """
    async with context.writing() as connection:
        user = await authorise_user(connection, Call.BATCH_MAIL, body.secret)
        await ask_for_mail(
            connection,
            context.settings,
            user,
            body.batchid,
            address=body.address,
            complete=body.complete,
        )
    return Nothing()
