"""Find the batches that mail is due about, and write the mail into the table of mails to send."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import structlog

from leruli_queue.jobs.batches import Batch, batch_of_row, last_failures
from leruli_queue.jobs.states import JobState
from leruli_queue.mail.text import Told, text_of_end, text_of_first_failure
from leruli_queue.store.pool import Connection, Pool
from leruli_queue.store.queries import queries, rows

log = structlog.get_logger(__name__)

# Without a job for so long, a submission is taken for complete that did not say so.
_QUIET_S = 3600.0
_AT_ONCE = 20
_MOST_ROUNDS = 10
_KEEP_S = 30 * 86400.0
_KEEP_UNUSED_S = 7 * 86400.0


async def write_due_mails(pool: Pool) -> None:
    """Write the mails that are due, in portions. It can be repeated, by several dispatchers too.

    The transaction that writes a mail also notes that it is written. So a mail is written once.
    """
    for _ in range(_MOST_ROUNDS):
        async with pool.acquire() as connection, connection.transaction():
            found = await rows(
                queries.batches_to_tell(connection, quiet_s=_QUIET_S, limit=_AT_ONCE)
            )
            written = [await _tell(connection, request) for request in found]
        if not any(written) or len(found) < _AT_ONCE:
            return


async def delete_old_mails(pool: Pool) -> None:
    """Delete mails that are over for long, and requests about batches that never got a job."""
    await queries.delete_old_mails(pool, keep_s=_KEEP_S)
    await queries.delete_unused_mail_requests(pool, keep_s=_KEEP_UNUSED_S)


async def _tell(connection: Connection, request: Any) -> bool:
    """Write what is due of a locked request; return whether anything changed."""
    key = {"user_id": request["user_id"], "batch_id": request["batch_id"]}
    row = await queries.batch_now(connection, user_id=key["user_id"], id=key["batch_id"])
    batch = batch_of_row(row)
    failed = batch.counts[JobState.FAILED]
    if request["is_complete"] and batch.jobs and not batch.open_jobs:
        # Unless it ended without a new job, after a submission that found all jobs submitted.
        if batch.jobs > request["told_jobs"]:
            await _write(connection, request, batch, is_end=True)
        await queries.close_mail_request(connection, **key, jobs=batch.jobs, failed=failed)
        return True
    if failed > request["told_failed"] and not request["failure_told"]:
        await _write(connection, request, batch, is_end=False)
        await queries.note_failure_told(connection, **key)
        return True
    return False


async def _write(connection: Connection, request: Any, batch: Batch, *, is_end: bool) -> None:
    failures = await last_failures(connection, batch)
    told = Told(request["user_name"], request["group_name"], batch, failures)
    text = text_of_end(told) if is_end else text_of_first_failure(told)
    mail_id = uuid4()
    await queries.write_mail(
        connection,
        id=mail_id,
        user_id=request["user_id"],
        batch_id=request["batch_id"],
        address=request["address"],
        subject=text.subject,
        body=text.body,
    )
    # Not the address, which is personal.
    log.info("mail is due", mail=str(mail_id), batch=str(batch.id), is_end=is_end)
