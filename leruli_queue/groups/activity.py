"""The jobs of a group, for every holder of its token: without buckets and secrets."""

from __future__ import annotations

from leruli_queue.errors import UserReportableError
from leruli_queue.jobs.listing import Filter, ListedJob, group_page, users_page
from leruli_queue.store.pool import Connection, Pool
from leruli_queue.store.queries import queries, rows


async def group_activity(
    connection: Connection | Pool, group_id: int, user: str | None, wanted: Filter, limit: int
) -> list[ListedJob]:
    """Return a page of the group's jobs, or of the jobs of each user who ever had a name.

    Raises
    ------
    UserReportableError
        404 when no user of the group ever had the name.
    """
    if user is None:
        return await group_page(connection, group_id, wanted, limit)
    named = await rows(queries.users_named(connection, group_id=group_id, name=user))
    if not named:
        raise UserReportableError("The group never had a user of this name.", status=404)
    return await users_page(connection, group_id, [row["id"] for row in named], wanted, limit)
