"""Errors that may be shown to a person.

Every error that the service answers on purpose is a :class:`UserReportableError`. Any other
exception is a defect of the service: it is logged with its traceback and answered with a bare 500.
"""

from __future__ import annotations


class UserReportableError(Exception):
    """An error with a message for the person who caused it or can correct it.

    Parameters
    ----------
    message
        One or two sentences: what happened, why, what to do. Never holds a secret.
    status
        The HTTP status of the answer.
    retry_after
        Seconds after which a retry makes sense; sent as ``Retry-After``.
    """

    def __init__(self, message: str, *, status: int = 400, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.retry_after = retry_after


class SetupError(Exception):
    """The operator's set-up is wrong or incomplete. Commands print it and exit with code 3."""
