"""Checks that Docker answers and that this agent can work with it."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from leruli_node.container.docker_engine import (
    DockerEngine,
    DockerRefusedError,
    DockerUnavailableError,
)
from leruli_node.errors import EXIT_UNAVAILABLE, AgentError
from leruli_node.retry import Backoff, Stop, only_first, retrying

log = logging.getLogger(__name__)


class DockerReadiness:
    """Facts about Docker that the agent must know before it uses it."""

    def __init__(self, engine: DockerEngine, socket: Path) -> None:
        self._engine = engine
        self._socket = socket
        self._rootless: bool | None = None

    def is_rootless(self) -> bool:
        """Return whether it is a rootless Docker. Asked until Docker has answered once."""
        if self._rootless is None:
            try:
                self._rootless = self._engine.is_rootless()
            except (DockerUnavailableError, DockerRefusedError):
                # An agent that is not root works only with a rootless Docker.
                return os.getuid() != 0
        return self._rootless

    def wait(self, stop: Stop) -> list[str]:
        """Wait until Docker answers. Return the container limits that it does not enforce.

        Nomad would fail the jobs that it recovers if it were started before Docker.

        Raises
        ------
        AgentError
            The agent could not read what jobs write.
        StoppedError
            The agent is being stopped.
        """

        def report(error: Exception) -> None:
            log.error("Docker does not answer at %s (%s); waiting for it", self._socket, error)

        missing = retrying(
            self._ask,
            (DockerUnavailableError, DockerRefusedError),
            Backoff(stop, longest=5.0),
            only_first(report),
        )
        if not self._rootless and os.getuid() != 0:
            raise AgentError(
                f"the Docker at {self._socket} is not rootless and the agent is not root, so it "
                "could not read what jobs write; use rootless Docker or be root.",
                EXIT_UNAVAILABLE,
            )
        return missing

    def _ask(self) -> list[str]:
        self._engine.ping()
        self._rootless = self._engine.is_rootless()
        missing = self._engine.missing_limits()
        if missing:
            log.warning(
                "this Docker does not enforce the limits of jobs on %s: a job can take more than "
                "it asked for. With rootless Docker this needs cgroup v2 and delegated "
                "controllers; see the README of the node agent",
                ", ".join(missing),
            )
        return missing
