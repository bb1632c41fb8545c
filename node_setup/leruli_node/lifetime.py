"""When and why the agent ends."""

from __future__ import annotations

import logging
import os
import signal
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
        self.draining = threading.Event()
        self.hurry = threading.Event()
        self.stop = threading.Event()
        self.expelled: str | None = None

    def obey_signals(self) -> None:
        """Drain at TERM and INT from now on; at the second one, hurry. Call it in the main thread.

        A handler in Python runs in the main thread, between two steps of any code. That code may
        hold the lock of an event or of `threading` itself, for which the handler would wait for
        ever. The main thread may also have begun to sleep, so that the handler runs much later. So
        the interpreter writes each signal into a pipe, and a thread reads it.
        """
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        threading.Thread(target=self._obey, args=(reading,), name="signals", daemon=True).start()
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _is_in_the_pipe)

    def expel(self, reason: str) -> None:
        """Note that the service gives this node no more jobs, and end once nothing runs here."""
        if self.expelled is None:
            self.expelled = reason
            log.warning("ending when the %d attempts here are over", len(self._store.all()))
        if not self._store.all():
            self.draining.set()

    def _obey(self, reading: int) -> None:
        os.read(reading, 1)
        self.draining.set()
        os.read(reading, 1)
        self.hurry.set()


def _is_in_the_pipe(number: int, frame: FrameType | None) -> None:
    """Do nothing. Without a handler the interpreter would not write the signal."""
