"""Disable a group, and enable it again: for the operator of the service."""

from __future__ import annotations

from leruli_queue.access.audit import Action, note_action
from leruli_queue.errors import UserReportableError
from leruli_queue.store.locks import SECRET_LOCKS
from leruli_queue.store.pool import Connection
from leruli_queue.store.queries import queries, rows


async def find_group(connection: Connection, name: str) -> int:
    """Return the id of a group.

    Raises
    ------
    UserReportableError
        404 when there is none of this name.
    """
    row = await queries.group_by_name(connection, name=name)
    if row is None:
        raise UserReportableError(
            f"There is no group named {name!r}; `leruli-queue group-list` has the names.",
            status=404,
        )
    group_id: int = row["id"]
    return group_id


async def disable_group(connection: Connection, name: str) -> bool:
    """Let no secret of the group be accepted, and dispatch nothing more of it.

    What runs may end: its output is uploaded, its receipts are taken. Waiting jobs are kept. When
    it returns, nothing is under way any more that was begun under a secret of the group's users.
    Returns False when it was disabled before.

    Raises
    ------
    UserReportableError
        404 when there is no such group.
    """
    group_id = await find_group(connection, name)
    changed = await _set(connection, group_id, disabled=True)
    # One by one, each in a transaction of its own: all at once could wait for a request that is
    # itself waiting for one of them.
    for row in await rows(queries.keys_of_group(connection, group_id=group_id)):
        await queries.seize_secret(connection, lock=SECRET_LOCKS, key_id=row["key_id"])
    return changed


async def enable_group(connection: Connection, name: str) -> bool:
    """Let the group's secrets be accepted again, and go on with its jobs.

    Returns False when it was not disabled.

    Raises
    ------
    UserReportableError
        404 when there is no such group.
    """
    return await _set(connection, await find_group(connection, name), disabled=False)


async def _set(connection: Connection, group_id: int, *, disabled: bool) -> bool:
    async with connection.transaction():
        changed = await queries.set_group_disabled(connection, group_id=group_id, disabled=disabled)
        if changed is not None:
            action = Action.GROUP_DISABLED if disabled else Action.GROUP_ENABLED
            await note_action(connection, group_id, action, actor_id=None)
    return changed is not None
