"""Find a group by its name, for the commands of the operator."""

from __future__ import annotations

from leruli_queue.errors import UserReportableError
from leruli_queue.store.pool import Connection
from leruli_queue.store.queries import queries


async def find_group(connection: Connection, name: str) -> int:
    """Return the id of a group.

    Raises
    ------
    UserReportableError
        404 when there is no group of this name.
    """
    row = await queries.group_by_name(connection, name=name)
    if row is None:
        raise UserReportableError(
            f"There is no group named {name!r}; `leruli-queue group-list` has the names.",
            status=404,
        )
    group_id: int = row["id"]
    return group_id
