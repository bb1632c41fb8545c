"""Names that a group has on its nodes: the node pool in Nomad and those of its images."""

from __future__ import annotations

import hashlib
import hmac
import json


def pool_name(group_key_id: str) -> str:
    """Return the name of the group's node pool in Nomad."""
    return f"group-{group_key_id}"


def image_prefix(group_key_id: str) -> str:
    """Return what a node puts before ``code:version`` when it tags one of the group's images.

    The first part looks like a registry that does not exist, so that Docker can never take the
    name for one of Docker Hub's and pull it.
    """
    return f"leruli.local/{group_key_id}"


def image_in_nomad(group_key_id: str, hiding_key: bytes, code: str, version: str) -> str:
    """Return the name under which Nomad runs an image; nodes tag it so when they stage in.

    Every node of a cluster can read every allocation. Under this name it does not learn what the
    other groups run.
    """
    return f"{image_prefix(group_key_id)}-run/{hidden(hiding_key, code, version)}:run"


def hidden(hiding_key: bytes, *parts: str | int) -> str:
    """Return a short name for these parts that says nothing to whoever lacks the group's key.

    Parameters
    ----------
    hiding_key
        The hash of the group's first token: the service has it, other groups do not. It stays when
        the token is rotated, or attempts in flight would name images that no node has.
    """
    text = json.dumps(parts).encode()
    return hmac.new(hiding_key, text, hashlib.sha256).hexdigest()[:24]
