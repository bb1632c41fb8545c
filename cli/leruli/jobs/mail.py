"""Mail about what is submitted: at the end of a batch, and at its first failure.

A single job gets a batch of its own, which is over when the job is.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from leruli.errors import LeruliError, RefusedError

if TYPE_CHECKING:
    from leruli.service.mail import MailCaller


def ask_before_submission(service: MailCaller, address: str, batchid: str) -> None:
    """Ask for mail about a batch before its jobs are submitted. Raises RefusedError."""
    _ask(service, address, batchid, complete=False)


def batch_of_one(service: MailCaller, address: str) -> str:
    """Ask for mail about one job that is submitted next. Return the id of the batch to put it in.

    If the submission is repeated, the job stays in the batch that it joined first. Raises
    RefusedError.
    """
    batchid = str(uuid.uuid4())
    _ask(service, address, batchid, complete=True)
    return batchid


def tell_complete(service: MailCaller, address: str, batchid: str) -> str | None:
    """Tell the service that all jobs were submitted. Return a sentence if that failed."""
    try:
        service.ask_for_mail(batchid, address, complete=True)
    except LeruliError as error:
        return (
            "The queue could not be told that all jobs are submitted, so mail about the end of the "
            f"batch may come an hour late: {error}"
        )
    return None


def _ask(service: MailCaller, address: str, batchid: str, *, complete: bool) -> None:
    try:
        service.ask_for_mail(batchid, address, complete=complete)
    except RefusedError as error:
        raise RefusedError(f"{error} Nothing was submitted.") from None
