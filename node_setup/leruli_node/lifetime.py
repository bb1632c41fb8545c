"""When and why the agent ends."""

from __future__ import annotations

import logging
import threading
from types import FrameType

from leruli_node.attempts.store import AttemptStore

log = logging.getLogger(__name__)


class Lifetime:
    """The events that end the agent.

    Attributes
    ----------
    draining
        Set when the agent is ending: no new attempt starts.
    hurry
        Set by a second signal: the agent waits for nothing any more.
    stop
        Set at the end of the shutdown: every wait ends.
    expelled
        The service's sentence when it gives this node no more jobs.
    """

    def __init__(self, store: AttemptStore) -> None:
        self._store = store
        self._signals = 0
        self.draining = threading.Event()
        self.hurry = threading.Event()
        self.stop = threading.Event()
        self.expelled: str | None = None

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """Drain; with the second signal, hurry."""
        # Setting an event takes the event's lock. This code runs in the main thread, which may hold
        # that lock.
        self._signals += 1
        threading.Thread(target=self._obey, args=(self._signals,), daemon=True).start()

    def expel(self, reason: str) -> None:
        """Note that the service gives this node no more jobs, and end once nothing runs here."""
        if self.expelled is None:
            self.expelled = reason
            log.warning("ending when the %d attempts here are over", len(self._store.all()))
        if not self._store.all():
            self.draining.set()

    def _obey(self, signals: int) -> None:
        self.draining.set()
        if signals > 1:
            self.hurry.set()
