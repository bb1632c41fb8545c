"""Names of groups and users: which are allowed."""

from __future__ import annotations

import re

from leruli_queue.access.secrets import refuse_secrets
from leruli_queue.errors import UserReportableError

NAME_PATTERN = r"[A-Za-z0-9]([A-Za-z0-9._@ -]{0,61}[A-Za-z0-9._@-])?"
"""Safe in a terminal, a quoted shell word and a spreadsheet's cell. One alphabet only."""

OPERATOR = "operator of the service"
"""The operator's name in the audit, so no user or group may have it."""

_NAME = re.compile(NAME_PATTERN)


def check_name(what: str, name: str) -> None:
    """Refuse a name that is not allowed.

    Raises
    ------
    UserReportableError
        422; the sentence says what is allowed.
    """
    if not _NAME.fullmatch(name) or "  " in name:
        raise UserReportableError(
            f"The name of the {what} may have up to 63 letters (a to z, A to Z), digits, single "
            "blanks and the characters . _ @ -. It has to begin with a letter or digit, and must "
            "not end in a blank.",
            status=422,
        )
    try:
        refuse_secrets(name)
    except ValueError as error:
        raise UserReportableError(
            f"This cannot be the name of a {what}: {error}.", status=422
        ) from None
    if name.lower() == OPERATOR:
        raise UserReportableError(
            f"No {what} may be called {OPERATOR!r}. Choose another name.", status=422
        )
