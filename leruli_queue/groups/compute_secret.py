"""The group's compute secret: whoever holds it can add machines to the group."""

from __future__ import annotations

from leruli_queue.access.secrets import SecretType, make
from leruli_queue.store.pool import Connection, Pool
from leruli_queue.store.queries import queries


async def rotate_compute_secret(connection: Connection | Pool, group_id: int) -> str:
    """Set the compute secret, or replace it by a new one, and return it.

    Setting and rotating are the same: the epoch of the group grows by one, and nodes that joined
    with an older secret get no leave to start any more.
    """
    secret = make(SecretType.COMPUTE)
    await queries.rotate_compute_secret(
        connection, group_id=group_id, key_id=secret.key_id, hash=secret.hash
    )
    return secret.text
