"""Disable a group and enable it again, for the operator of the service."""

from __future__ import annotations

from leruli_queue.access.audit import Action, note_action
from leruli_queue.groups.lookup import find_group
from leruli_queue.store.locks import SECRET_LOCKS
from leruli_queue.store.pool import Connection
from leruli_queue.store.queries import queries, rows


async def disable_group(connection: Connection, name: str) -> bool:
    """Refuse all secrets of the group, and dispatch none of its jobs.

    Running jobs may end: their output is uploaded, their receipts are accepted. Queued jobs stay
    queued. When this returns, every call that began with a secret of the group's users has ended.

    Returns
    -------
    bool
        False when the group was disabled already.

    Raises
    ------
    UserReportableError
        404 when there is no such group.
    """
    group_id = await find_group(connection, name)
    changed = await _set(connection, group_id, disabled=True)
    # Lock the secrets one at a time, each in its own transaction. A transaction that holds several
    # could deadlock with a request that waits for one of them.
    for row in await rows(queries.keys_of_group(connection, group_id=group_id)):
        await queries.seize_secret(connection, lock=SECRET_LOCKS, key_id=row["key_id"])
    return changed


async def enable_group(connection: Connection, name: str) -> bool:
    """Accept the group's secrets again, and dispatch its jobs again.

    Returns
    -------
    bool
        False when the group was not disabled.

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
