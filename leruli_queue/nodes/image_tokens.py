"""The group tokens by which a node finds its group's images after a rotation."""

from __future__ import annotations

from leruli_queue.access.authenticate import Node
from leruli_queue.groups.group_token import image_tokens
from leruli_queue.store.pool import Connection, Pool
from leruli_queue.store.queries import queries


async def image_tokens_of_node(
    connection: Connection | Pool, node: Node, known: str | None
) -> list[str]:
    """Return the tokens of the buckets to search for images, the newest first.

    An empty list means: continue with the tokens that the node has.

    Parameters
    ----------
    known
        Key id of the newest token that the node has, as it reports. None from an agent that is too
        old to report it.
    """
    if known is not None and known != node.images_key_id:
        await queries.note_images_key(connection, node_id=node.id, token_key_id=known)
    token = node.unseal_group_token()
    if token is None:
        return []
    return await image_tokens(connection, node.group_id, token)
