"""The Nomad cluster that a group's jobs run in: by name; what it is stands in the settings."""

from __future__ import annotations

from leruli_queue.access.audit import Action, note_action
from leruli_queue.groups.disabling import find_group
from leruli_queue.store.pool import Connection
from leruli_queue.store.queries import queries


async def set_cluster(connection: Connection, name: str, cluster: str) -> bool:
    """Have the group's jobs run in this cluster from now on; its nodes have to join anew.

    What runs in the former cluster runs to its end there, what waits there is dispatched in the
    new one as soon as a node has joined it. Returns False when the group was in it before.

    Raises
    ------
    UserReportableError
        404 when there is no such group.
    """
    async with connection.transaction():
        group_id = await find_group(connection, name)
        changed = await queries.set_cluster(connection, group_id=group_id, cluster=cluster)
        if changed is not None:
            await note_action(
                connection, group_id, Action.CLUSTER_SET, actor_id=None, detail=cluster
            )
    return changed is not None
