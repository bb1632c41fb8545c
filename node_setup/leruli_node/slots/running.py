"""The command of a further attempt while it runs."""

from __future__ import annotations

import logging
import threading
import time

from leruli_node.container.docker_engine import DockerRefusedError, DockerUnavailableError
from leruli_node.model import AttemptId
from leruli_node.slots.container import AttemptContainer
from leruli_node.slots.record import SlotRecord

log = logging.getLogger(__name__)


class Running:
    """One command that was started. Safe for several threads."""

    def __init__(
        self, container: AttemptContainer, slot: SlotRecord, attempt: AttemptId, grace: float
    ) -> None:
        self.attempt = attempt
        self._container = container
        self._slot = slot
        # Seconds between TERM and KILL.
        self._grace = grace
        self._lock = threading.Lock()
        self._termed_at: float | None = None

    def wait(self, seconds: float) -> bool:
        """Wait for the end. Return whether it is over. Raises as AttemptContainer.wait."""
        return self._container.wait(self._slot, self.attempt, seconds)

    def end(self) -> None:
        """Send TERM; KILL when this is called again after the grace. Raises nothing."""
        with self._lock:
            if self._termed_at is None:
                if self._signal("TERM"):
                    self._termed_at = time.monotonic()
            elif time.monotonic() - self._termed_at >= self._grace:
                self._signal("KILL")

    def kill(self) -> None:
        """Send KILL. Raises nothing."""
        self._signal("KILL")

    def _signal(self, name: str) -> bool:
        try:
            self._container.signal(self._slot, self.attempt, name)
            return True
        except (DockerUnavailableError, DockerRefusedError) as error:
            fields = self.attempt.log_fields
            log.warning("the command gets its %s later: %s", name, error, extra=fields)
            return False
