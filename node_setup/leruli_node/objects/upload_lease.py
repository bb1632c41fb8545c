"""The lease under which an attempt's output is written: no write without a young one.

The service gives an attempt up when its node is silent for LERULI_QUEUE_NODE_SILENCE_S. Its
successor may then upload into the same bucket. So this node stops writing when half of that time
has passed since it asked for the last renewal that was granted (docs/developers/attempts.md, "Who
may write").
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from leruli_node.errors import StoppedError
from leruli_node.retry import Stop
from leruli_node.service.service_api import ServiceError, StaleError, UnreachableError

log = logging.getLogger(__name__)

# Of a service that does not say it: the default of LERULI_QUEUE_NODE_SILENCE_S, in seconds.
_DEFAULT_SILENCE = 80.0
# With a limit of 0 there is no time to be safe in; uploads go on all the same.
_SHORTEST_LIFE = 1.0
_RENEWALS_A_LIFE = 4
_STEP = 0.2


class LeaseTooOldError(Exception):
    """A write was broken off because the lease was not renewed in time; it may be repeated."""


def boot_time() -> float:
    """Seconds since the boot, those in which the machine was suspended included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class UploadLease:
    """One attempt's lease; safe to use from several threads.

    Parameters
    ----------
    ask
        Asks the service, within the given seconds. Returns its limit of silence in seconds, None
        where it does not say it. Raises ServiceError; StaleError when the attempt is over.
    stop
        Ends all waiting.
    period
        Seconds between two renewals; by default a quarter of the lease's life.
    """

    def __init__(
        self,
        ask: Callable[[float], float | None],
        stop: Stop,
        period: float | None = None,
        clock: Callable[[], float] = boot_time,
    ) -> None:
        self._ask = ask
        self._stop = stop
        self._fixed_period = period
        self._clock = clock
        self._life = _DEFAULT_SILENCE / 2
        self._changed = threading.Condition()
        self._renewed_at: float | None = None
        self._doubted_at = float("-inf")
        self._ends_early = threading.Event()
        #: Set when the service has taken the attempt from this node.
        self.withdrawn = threading.Event()

    @property
    def _period(self) -> float:
        return self._fixed_period or self._life / _RENEWALS_A_LIFE

    def renew(self) -> None:
        """Ask once. Raises ServiceError."""
        # Before the request: the service counts from when it takes it, which is later.
        asked_at = self._clock()
        silence = self._ask(max(1.0, self._life / _RENEWALS_A_LIFE))
        with self._changed:
            if silence is not None:
                self._life = max(_SHORTEST_LIFE, silence / 2)
            self._renewed_at = asked_at
            self._changed.notify_all()

    def is_fresh(self) -> bool:
        """Whether a write may begin or go on now."""
        renewed_at = self._renewed_at
        return renewed_at is not None and self._clock() - renewed_at < self._life

    def wait(self) -> None:
        """Wait until a write may begin. Raises StoppedError when there is to be none."""
        waited = False
        while True:
            if self._stop.is_set() or self.withdrawn.is_set():
                raise StoppedError
            if self.is_fresh() and not self._is_doubted():
                return
            if not waited:
                waited = True
                if not self.is_fresh():
                    log.warning("the upload pauses: its lease is too old")
            with self._changed:
                self._changed.wait(_STEP)

    def check(self) -> None:
        """Raise LeaseTooOldError or StoppedError when a write under way has to break off."""
        if self._stop.is_set() or self.withdrawn.is_set():
            raise StoppedError
        if not self.is_fresh():
            raise LeaseTooOldError

    def doubt(self) -> None:
        """Have the next write begin after a renewal that is asked for from now on."""
        self._doubted_at = self._clock()
        self._ends_early.set()

    def _is_doubted(self) -> bool:
        return self._renewed_at is None or self._renewed_at < self._doubted_at

    def withdraw(self) -> None:
        """End the upload: the attempt is not this node's any more."""
        self.withdrawn.set()
        with self._changed:
            self._changed.notify_all()

    @contextmanager
    def renewed(self, what: dict[str, object]) -> Iterator[None]:
        """Renew it in a thread of its own while the block runs; `what` stands in the log."""
        done = threading.Event()

        def keep_renewing() -> None:
            pause = self._period if self.is_fresh() else 0.0
            while True:
                self._ends_early.wait(pause)
                self._ends_early.clear()
                if done.is_set() or self.withdrawn.is_set():
                    return
                try:
                    self.renew()
                    pause = self._period
                except StaleError as error:
                    log.info("the upload is stopped: %s", error, extra=what)
                    self.withdraw()
                    return
                except UnreachableError as error:
                    log.warning("the upload's lease is not renewed: %s", error, extra=what)
                    pause = min(self._period, max(1.0, error.retry_after))
                except ServiceError as error:
                    # Another answer comes no sooner for being asked for each second.
                    log.warning("the upload's lease is not renewed: %s", error, extra=what)
                    pause = self._period
                except Exception:
                    log.exception("renewing an upload's lease failed unexpectedly", extra=what)
                    pause = min(1.0, self._period)

        # Not waited for: its call may hang when there is nothing more to renew.
        threading.Thread(target=keep_renewing, name="renew", daemon=True).start()
        try:
            yield
        finally:
            done.set()
            self._ends_early.set()
