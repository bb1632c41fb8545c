"""The containers of this node's attempts."""

from __future__ import annotations

from leruli_node.container.docker_engine import DockerEngine
from leruli_node.identity import NodeIdentity
from leruli_node.model import AttemptId


class OwnContainers:
    """Finds and removes containers by the labels of node and attempt."""

    def __init__(self, engine: DockerEngine, identity: NodeIdentity) -> None:
        self._engine = engine
        self._identity = identity

    def of(self, attempt: AttemptId) -> list[str]:
        """The ids of an attempt's containers. Raises DockerUnavailableError, DockerRefusedError."""
        if self._identity.nodeid is None:
            return []
        return [one.id for one in self._engine.list_own(self._identity.nodeid, attempt.key)]

    def remove(self, attempt: AttemptId) -> None:
        """Remove an attempt's containers. Raises DockerUnavailableError, DockerRefusedError."""
        for container in self.of(attempt):
            self._engine.remove(container)
