"""Names that a group has on its nodes: the node pool in Nomad and the prefix of its images."""

from __future__ import annotations


def pool_name(group_key_id: str) -> str:
    """Return the name of the group's node pool in Nomad."""
    return f"group-{group_key_id}"


def image_prefix(group_key_id: str) -> str:
    """Return what a node puts before ``code:version`` when it tags one of the group's images.

    The first part looks like a registry that does not exist, so that Docker can never take the
    name for one of Docker Hub's and pull it.
    """
    return f"leruli.local/{group_key_id}"
