"""The node's identity at the service: one object, handed to every part when it is built."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class NodeIdentity:
    """The node's id and the prefix of its image names; both None before the first join."""

    nodeid: str | None = None
    image_prefix: str | None = None

    def learn(self, nodeid: str, image_prefix: str) -> None:
        """Store the id and the prefix that the service answered to a join."""
        self.nodeid, self.image_prefix = nodeid, image_prefix
