"""The call that asks for mail about a batch."""

from __future__ import annotations

from leruli.errors import RefusedError, UnknownCallError
from leruli.service.caller import Caller

# As a submission, of which it is a part.
_RETRY_FOR_S = 120.0


class MailCaller(Caller):
    """Asks the service for mail with an API secret; safe for several threads."""

    def ask_for_mail(self, batchid: str, address: str, *, complete: bool) -> None:
        """Ask for mail about a batch, which may have no job yet. It can be repeated.

        `complete` says that all jobs were submitted, so that the batch can end. Raises
        RefusedError, also for a service that sends no mail.
        """
        body = {"secret": self._secret, "batchid": batchid, "address": address}
        try:
            self._connection.call(
                "batch-mail", {**body, "complete": complete}, retry_for_s=_RETRY_FOR_S
            )
        except UnknownCallError:
            raise RefusedError(
                "The queue is older than this client and sends no mail. Submit without --mail."
            ) from None
