"""Send the mails of the table: leases, pauses between tries, and an end to trying.

Every dispatcher sends. The row of a mail is its lock: who claims it moves the time at which it is
due to the end of a lease (docs/developers/mail.md).
"""

from __future__ import annotations

import asyncio
from typing import Any

import structlog

from leruli_queue.mail.smtp import NotSentError, Server, sending
from leruli_queue.mail.text import Text, message
from leruli_queue.store.pool import DATABASE_AWAY, Pool
from leruli_queue.store.queries import queries

log = structlog.get_logger(__name__)

# Longer than a try can take.
_LEASE_S = 300.0
_EVERY_S = 2.0
_FIRST_PAUSE_S, _MOST_PAUSE_S = 60.0, 3600.0
_TRY_FOR_S = 2 * 86400.0
_NOTE_AGAIN_S = 1.0


class Outbox:
    """Sends mails as long as it runs."""

    def __init__(self, server: Server, pool: Pool) -> None:
        self._server = server
        self._pool = pool

    async def run(self) -> None:
        """Send mails when they are due."""
        while True:
            while await self.send_one():
                pass
            await asyncio.sleep(_EVERY_S)

    async def send_one(self) -> bool:
        """Try the mail that is due for longest; return whether one was accepted."""
        claimed = await queries.claim_mail(self._pool, lease_s=_LEASE_S)
        if claimed is None:
            return False
        address, sender = claimed["address"], self._server.sender
        text = Text(claimed["subject"], claimed["body"])
        mail = message(claimed["id"], sender, address, text, claimed["written_at"])
        try:
            async with sending(self._server, address, mail):
                await self._note_sent(claimed)
        except NotSentError as error:
            await self._note_failed(claimed, error)
            return False
        return True

    async def _note_sent(self, claimed: Any) -> None:
        """Note that the mail was accepted, however long the database is away.

        A mail without this note is sent again when its lease is over.
        """
        while True:
            try:
                await queries.note_mail_sent(self._pool, id=claimed["id"])
                break
            except DATABASE_AWAY:
                await asyncio.sleep(_NOTE_AGAIN_S)
        log.info("mail sent", mail=str(claimed["id"]), tries=claimed["tries"])

    async def _note_failed(self, claimed: Any, error: NotSentError) -> None:
        pause_s = min(_FIRST_PAUSE_S * 2.0 ** (claimed["tries"] - 1), _MOST_PAUSE_S)
        is_given_up = await queries.note_mail_failed(
            self._pool,
            id=claimed["id"],
            tries=claimed["tries"],
            error=str(error),
            pause_s=None if error.is_final else pause_s,
            try_for_s=_TRY_FOR_S,
        )
        told = log.bind(mail=str(claimed["id"]), tries=claimed["tries"], why=str(error))
        if is_given_up:
            told.error("a mail is given up")
        else:
            told.warning("a mail was not sent; it is tried again", again_after_s=pause_s)
