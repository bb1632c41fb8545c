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
        The agent ends: no new attempt starts.
    hurry
        A second signal came: nothing is waited for.
    stop
        Every wait ends.
    expelled
        Why the service gives this node no job any more, once it said so.
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
        # Setting an event takes its lock, which the main thread, where this runs, may just hold.
        self._signals += 1
        threading.Thread(target=self._obey, args=(self._signals,), daemon=True).start()

    def expel(self, reason: str) -> None:
        """The service gives this node no job any more: end once nothing runs here."""
        if self.expelled is None:
            self.expelled = reason
            log.warning("ending when the %d attempts here are over", len(self._store.all()))
        if not self._store.all():
            self.draining.set()

    def _obey(self, signals: int) -> None:
        self.draining.set()
        if signals > 1:
            self.hurry.set()
