"""Batches that a person names to the service: by a name, or by the first digits of an id."""

from __future__ import annotations

import re
from collections.abc import Collection
from uuid import UUID

from leruli_queue.errors import UserReportableError
from leruli_queue.store.pool import Connection, Pool
from leruli_queue.store.queries import queries, rows

_DIGITS = re.compile("[0-9a-f]{4,32}")
# Each of them costs a page of a list some index scans.
_MOST = 100


def digits_of(reference: str) -> str | None:
    """Return the digits of a reference that may begin an id, without hyphens; else None."""
    digits = reference.replace("-", "").lower()
    return digits if _DIGITS.fullmatch(digits) else None


async def batches_named(
    connection: Connection | Pool, user_ids: Collection[int], reference: str
) -> tuple[int, ...]:
    """Return the numbers of the batches of some users that a reference names.

    Parameters
    ----------
    reference
        A name, or at least four of the first digits of an id.

    Raises
    ------
    UserReportableError
        404 when it names none, 422 when it names too many.
    """
    digits = digits_of(reference)
    found = await rows(
        queries.batches_named(
            connection,
            user_ids=list(user_ids),
            name=reference,
            first=digits and UUID(digits.ljust(32, "0")),
            last=digits and UUID(digits.ljust(32, "f")),
            limit=_MOST + 1,
        )
    )
    if not found:
        raise UserReportableError(
            "The group has no such batch. Give the name of a batch, or at least four of the first "
            "digits of its id.",
            status=404,
        )
    if len(found) > _MOST:
        raise UserReportableError(
            f"This names more than {_MOST} batches. Give the id of one.", status=422
        )
    return tuple(row["number"] for row in found)
