"""Names of a group's node pool in Nomad, and of its images on nodes."""

from __future__ import annotations

import hashlib
import hmac
import json


def pool_name(group_key_id: str) -> str:
    """Return the name of the group's node pool in Nomad."""
    return f"group-{group_key_id}"


def image_prefix(group_key_id: str) -> str:
    """Return the prefix of ``code:version`` in the tags of the group's images on a node.

    Its first part looks like a registry that does not exist. So Docker can never take the name for
    an image of Docker Hub and pull it.
    """
    return f"leruli.local/{group_key_id}"


def image_in_nomad(group_key_id: str, hiding_key: bytes, code: str, version: str) -> str:
    """Return the name under which Nomad runs an image. Nodes tag the image with it at stage-in.

    Every node of a cluster can read every allocation. This name hides what other groups run.
    """
    return f"{image_prefix(group_key_id)}-run/{hidden(hiding_key, code, version)}:run"


def hidden(hiding_key: bytes, *parts: str | int) -> str:
    """Return a short name for these parts that reveals them only to holders of the key.

    Parameters
    ----------
    hiding_key
        The hash of the group's first token. The service has it, other groups do not. It stays the
        same after a rotation; otherwise attempts in flight would name images that no node has.
    """
    text = json.dumps(parts).encode()
    return hmac.new(hiding_key, text, hashlib.sha256).hexdigest()[:24]
