"""Errors that may be shown to a person.

Everything that leaves the service as an error is a :class:`UserReportableError`; any other
exception is a defect of ours, logged with its traceback and answered with a bare 500.
"""

from __future__ import annotations


class UserReportableError(Exception):
    """An error whose message is written for the person who caused or can mend it.

    Parameters
    ----------
    message
        One or two sentences: what happened, why, what to do. Never holds a secret.
    status
        The HTTP status it is answered with.
    retry_after
        Seconds after which trying again makes sense; sent as ``Retry-After``.
    """

    def __init__(self, message: str, *, status: int = 400, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.retry_after = retry_after


class SetupError(Exception):
    """The operator's set-up is wrong or incomplete; commands print it and exit with code 3."""
