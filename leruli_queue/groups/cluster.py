"""The Nomad cluster of a group, by its name. The settings describe each cluster."""

from __future__ import annotations

from leruli_queue.access.audit import Action, note_action
from leruli_queue.groups.lookup import find_group
from leruli_queue.store.pool import Connection
from leruli_queue.store.queries import queries


async def set_cluster(connection: Connection, name: str, cluster: str) -> bool:
    """Run the group's jobs in this cluster from now on. The group's nodes have to join again.

    Jobs that run in the former cluster end there. Jobs that do not run yet are dispatched in the
    new cluster as soon as a node has joined it.

    Returns
    -------
    bool
        False when the group was in this cluster already.

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
