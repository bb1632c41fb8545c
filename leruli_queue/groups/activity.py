"""The jobs of a group, for every holder of its token: without buckets and secrets."""

from __future__ import annotations

from leruli_queue.errors import UserReportableError
from leruli_queue.jobs.batch_references import batches_named
from leruli_queue.jobs.events import users_of_group
from leruli_queue.jobs.listing import Filter, ListedJob, batches_page, group_page, users_page
from leruli_queue.store.pool import Connection, Pool
from leruli_queue.store.queries import queries, rows


async def group_activity(
    connection: Connection | Pool,
    group_id: int,
    user: str | None,
    batch: str | None,
    wanted: Filter,
    limit: int,
) -> list[ListedJob]:
    """Return a page of the group's jobs.

    Parameters
    ----------
    user
        Only jobs of each user who ever had this name.
    batch
        Only jobs of batches with this name, or whose id begins so.

    Raises
    ------
    UserReportableError
        404 when no user of the group ever had the name, or there is no such batch.
    """
    if user is None and batch is None:
        return await group_page(connection, group_id, wanted, limit)
    if user is None:
        user_ids = await users_of_group(connection, group_id)
    else:
        named = await rows(queries.users_named(connection, group_id=group_id, name=user))
        user_ids = [row["id"] for row in named]
        if not user_ids:
            raise UserReportableError("The group never had a user of this name.", status=404)
    if batch is None:
        return await users_page(connection, group_id, user_ids, wanted, limit)
    batches = await batches_named(connection, user_ids, batch)
    return await batches_page(connection, group_id, batches, wanted, limit)
