"""By which group tokens a node finds the buckets of its group's images, after a rotation."""

from __future__ import annotations

from leruli_queue.access.authenticate import Node
from leruli_queue.groups.group_token import image_tokens
from leruli_queue.store.pool import Connection, Pool
from leruli_queue.store.queries import queries


async def image_tokens_of_node(
    connection: Connection | Pool, node: Node, known: str | None
) -> list[str]:
    """Return the tokens to look for images by, the newest first; none: go on as before.

    Parameters
    ----------
    known
        Key id of the newest token that the node says it has; None of an agent that is too old to
        say so.
    """
    if known is not None and known != node.images_key_id:
        await queries.note_images_key(connection, node_id=node.id, token_key_id=known)
    token = node.sealed_group_token()
    if token is None:
        return []
    return await image_tokens(connection, node.group_id, token)
