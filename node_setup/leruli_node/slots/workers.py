"""A bounded number of threads beside a slot: they end with the agent, whatever they wait for."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable

from leruli_node.errors import StoppedError

log = logging.getLogger(__name__)

# Seconds between two looks whether the agent is being stopped.
_POLL_S = 1.0


class Workers:
    """Does work in the background, in the order in which it was given.

    Unlike the threads of concurrent.futures, these do not delay the end of the process.
    """

    def __init__(self, name: str, most: int, stop: threading.Event) -> None:
        self._name = name
        self._most = most
        self._stop = stop
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._changed = threading.Condition()
        self._pending = 0
        self._threads = 0

    def do(self, work: Callable[[], None]) -> None:
        """Have some work done; waits while twice as much as there are threads is pending.

        Raises
        ------
        StoppedError
            The agent is being stopped.
        """
        self._wait(2 * self._most - 1)
        with self._changed:
            self._pending += 1
            if self._pending > self._threads and self._threads < self._most:
                self._threads += 1
                threading.Thread(target=self._run, name=self._name, daemon=True).start()
        self._work.put(work)

    def wait(self) -> None:
        """Wait until all is done. Raises StoppedError."""
        self._wait(0)

    def close(self) -> None:
        """End the threads when all is done."""
        with self._changed:
            threads, self._threads = self._threads, 0
        for _ in range(threads):
            self._work.put(None)

    def _wait(self, most: int) -> None:
        with self._changed:
            while self._pending > most:
                if self._stop.is_set():
                    raise StoppedError
                self._changed.wait(_POLL_S)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            try:
                work()
            except StoppedError:
                pass
            except Exception:
                log.exception("work beside a slot failed unexpectedly")
            with self._changed:
                self._pending -= 1
                self._changed.notify_all()
