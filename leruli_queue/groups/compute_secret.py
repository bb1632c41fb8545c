"""The group's compute secret: its holders can add machines to the group."""

from __future__ import annotations

from leruli_queue.access.audit import Action, note_action
from leruli_queue.access.secrets import SecretType, make
from leruli_queue.store.pool import Connection
from leruli_queue.store.queries import queries


async def rotate_compute_secret(
    connection: Connection, group_id: int, *, by: int | None = None
) -> str:
    """Set or rotate the compute secret, and return the new one.

    Both increase the group's epoch by one. Nodes that joined with an older secret get no start
    grant any more.

    Parameters
    ----------
    by
        Id of the admin who does it; None for the operator of the service.
    """
    secret = make(SecretType.COMPUTE)
    async with connection.transaction():
        epoch = await queries.rotate_compute_secret(
            connection, group_id=group_id, key_id=secret.key_id, hash=secret.hash
        )
        await note_action(
            connection,
            group_id,
            Action.COMPUTE_SECRET_ROTATED,
            actor_id=by,
            detail="set for the first time" if epoch == 1 else None,
        )
    return secret.text
