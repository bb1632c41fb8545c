"""The group's compute secret: whoever holds it can add machines to the group."""

from __future__ import annotations

from leruli_queue.access.audit import Action, note_action
from leruli_queue.access.secrets import SecretType, make
from leruli_queue.store.pool import Connection
from leruli_queue.store.queries import queries


async def rotate_compute_secret(
    connection: Connection, group_id: int, *, by: int | None = None
) -> str:
    """Set the compute secret, or replace it by a new one, and return it.

    Setting and rotating are the same: the epoch of the group grows by one, and nodes that joined
    with an older secret get no leave to start any more.

    Parameters
    ----------
    by
        Id of the admin who does it, None for the operator of the service.
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
