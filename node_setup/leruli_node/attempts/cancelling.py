"""Sends TERM to the command of a cancelled first attempt at once.

Nomad does so too, a moment later, and sends KILL when its time for that is over. main.sh passes
only the first TERM on, so the job sees one.
"""

from __future__ import annotations

import logging
import threading
import time

from leruli_node.attempts.store import AttemptStore
from leruli_node.container.docker_engine import (
    DockerEngine,
    DockerRefusedError,
    DockerUnavailableError,
)
from leruli_node.identity import NodeIdentity
from leruli_node.model import STAGED, AttemptId

log = logging.getLogger(__name__)

_LOOK_EVERY_S = 0.5
# Then the watcher ends what is left (CANCEL_TIMEOUT_S).
_LOOKS_FOR_S = 60.0


class Cancelling:
    """Sends TERM to commands that somebody cancelled.

    Parameters
    ----------
    store, engine, identity
        Where attempts and containers are found.
    stop
        Set when the agent ends.
    """

    def __init__(
        self,
        store: AttemptStore,
        engine: DockerEngine,
        identity: NodeIdentity,
        stop: threading.Event,
    ) -> None:
        self._store = store
        self._engine = engine
        self._identity = identity
        self._stop = stop
        self._lock = threading.Lock()
        self._ending: set[AttemptId] = set()

    def cancel(self, attempt: AttemptId) -> None:
        """End the command of this attempt. It may be asked for again; nothing happens twice."""
        state = self._store.get(attempt)
        # A slot ends the commands of its further attempts itself.
        if state is None or state.slot is not None or state.phase != STAGED:
            return
        with self._lock:
            if attempt in self._ending:
                return
            # Kept: one TERM is enough, however often the service says it.
            self._ending = {one for one in self._ending if self._store.get(one) is not None}
            self._ending.add(attempt)
        thread = threading.Thread(target=self._end, args=(attempt,), name="cancel", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no more threads now; the next reply says it again
            self._ending.discard(attempt)

    def _end(self, attempt: AttemptId) -> None:
        until = time.monotonic() + _LOOKS_FOR_S
        while time.monotonic() < until:
            state = self._store.get(attempt)
            if state is None or state.phase != STAGED:
                return
            try:
                running = self._running(attempt)
                for container in running:
                    log.info("cancelled; ending its command", extra=attempt.log_fields)
                    self._engine.signal(container, "TERM")
                if running:
                    return
            except (DockerUnavailableError, DockerRefusedError) as error:
                log.warning("a command is not ended yet: %s", error, extra=attempt.log_fields)
            if self._stop.wait(_LOOK_EVERY_S):
                return

    def _running(self, attempt: AttemptId) -> list[str]:
        """Return the attempt's containers that run. Nomad's driver may be about to make one."""
        nodeid = self._identity.nodeid
        if nodeid is None:
            return []
        found = self._engine.list_own(nodeid, attempt.key)
        return [one.id for one in found if one.state in ("running", "paused")]
