"""The containers of this node's attempts."""

from __future__ import annotations

from leruli_node.container.docker_engine import DockerEngine
from leruli_node.identity import NodeIdentity
from leruli_node.model import AttemptId


def container_name(attempt: AttemptId) -> str:
    """Return Docker's name of a further attempt's own container."""
    return f"leruli-{attempt.key}"


class OwnContainers:
    """Finds and removes containers by their labels of node and attempt."""

    def __init__(self, engine: DockerEngine, identity: NodeIdentity) -> None:
        self._engine = engine
        self._identity = identity

    def of(self, attempt: AttemptId) -> list[str]:
        """Return the ids of an attempt's containers.

        Raises
        ------
        DockerUnavailableError, DockerRefusedError
            Docker does not answer, or refuses.
        """
        if self._identity.nodeid is None:
            return []
        return [one.id for one in self._engine.list_own(self._identity.nodeid, attempt.key)]

    def remove(self, attempt: AttemptId, is_further: bool = False) -> None:
        """Remove an attempt's containers. That of a further attempt has a name that is known.

        Raises
        ------
        DockerUnavailableError, DockerRefusedError
            Docker does not answer, or refuses.
        """
        for container in [container_name(attempt)] if is_further else self.of(attempt):
            self._engine.remove(container)
