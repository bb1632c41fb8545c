"""What groups and users may be called."""

from __future__ import annotations

import re

from leruli_queue.errors import UserReportableError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@ -]{0,62}")


def check_name(what: str, name: str) -> None:
    """Refuse a name that is not allowed.

    Raises
    ------
    UserReportableError
        422, with what is allowed.
    """
    if not _NAME.fullmatch(name):
        raise UserReportableError(
            f"The name of the {what} has to begin with a letter or digit and may have up to 63 "
            "letters, digits, blanks and the characters . _ @ -",
            status=422,
        )
