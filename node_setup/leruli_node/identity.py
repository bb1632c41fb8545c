"""Who this node is for the service: one object, which every part holds from its construction."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class NodeIdentity:
    """The node's id and the prefix of its images' names; None before its first join."""

    nodeid: str | None = None
    image_prefix: str | None = None

    def learn(self, nodeid: str, image_prefix: str) -> None:
        """Take what the service answered to a join."""
        self.nodeid, self.image_prefix = nodeid, image_prefix
