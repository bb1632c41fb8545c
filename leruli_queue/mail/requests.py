"""Users ask for mail about their batches."""

from __future__ import annotations

import re
from uuid import UUID

from leruli_queue.access.authenticate import User
from leruli_queue.errors import UserReportableError
from leruli_queue.mail_settings import is_mail_address
from leruli_queue.settings import Settings
from leruli_queue.store.pool import Connection
from leruli_queue.store.queries import queries

_NOT_ASCII = re.compile(r"[^\x00-\x7f]")


async def ask_for_mail(
    connection: Connection,
    settings: Settings,
    user: User,
    batch_id: UUID,
    *,
    address: str,
    complete: bool,
) -> None:
    """Note that the user wants mail about a batch. It can be repeated, with another address too.

    The batch may be unknown yet: its first job makes it. ``complete`` says that no more jobs of
    this submission follow, so that the batch may end.

    Raises
    ------
    UserReportableError
        409 when this service sends no mail, or the user asked for much mail already; 422 for an
        address that is wrong, or that the operator does not allow.
    """
    if settings.smtp_host is None:
        raise UserReportableError(
            "This queue sends no mail: its operator has not set a mail server "
            "(LERULI_QUEUE_SMTP_HOST). Submit without --mail; task-wait and task-submit --wait "
            "tell you when jobs end.",
            status=409,
        )
    _check(address, settings)
    written = await queries.count_mail_of_user(connection, user_id=user.id, batch_id=batch_id)
    if written is not None and written >= settings.smtp_user_daily:
        raise UserReportableError(
            f"You have asked for much mail: within a day a user gets {settings.smtp_user_daily} "
            "mails, and those that you wait for count. Submit without --mail, or submit many "
            "folders as one batch (--batch), which has one mail at its end.",
            status=409,
        )
    await queries.ask_for_mail(
        connection, user_id=user.id, batch_id=batch_id, address=address, complete=complete
    )


def _check(address: str, settings: Settings) -> None:
    if _NOT_ASCII.search(address):
        raise UserReportableError(
            "The address for mail has a character that is not ASCII, which many mail servers "
            "refuse. Give an address of plain letters; write the domain in its ASCII form "
            "(xn--…).",
            status=422,
        )
    if not is_mail_address(address):
        raise UserReportableError(
            "The address for mail is not one, such as ada@example.org. Give one address, without "
            "a name, quotes or spaces.",
            status=422,
        )
    domain = address.rpartition("@")[2].lower()
    allowed = [one.lower() for one in settings.smtp_domains]
    if allowed and domain not in allowed:
        raise UserReportableError(
            f"This queue sends mail to addresses at {', '.join(allowed)} only. Give such an "
            "address, or submit without --mail.",
            status=422,
        )
