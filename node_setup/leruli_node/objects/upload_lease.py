"""The lease that allows this node to write an attempt's output into the job's bucket.

The service abandons an attempt when its node is silent for LERULI_QUEUE_NODE_SILENCE_S. The next
attempt may then upload into the same bucket. So this node stops writing when half of that time has
passed since it sent the last renewal that was granted (docs/developers/attempts.md, "Who may
write").
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from leruli_node.errors import StoppedError
from leruli_node.retry import Stop
from leruli_node.service.service_api import ServiceError, StaleError, UnreachableError

log = logging.getLogger(__name__)

# For an older service, which does not send it: the default of LERULI_QUEUE_NODE_SILENCE_S (s).
_DEFAULT_SILENCE = 80.0
# A silence limit of 0 leaves no safe time. Uploads go on all the same.
_SHORTEST_LIFE = 1.0
_RENEWALS_A_LIFE = 4
_STEP = 0.2
_MOST_HELD = 1000


class LeaseTooOldError(Exception):
    """A write was aborted because the lease was not renewed in time. It may be repeated."""


def boot_time() -> float:
    """Return the seconds since the boot, including suspended time."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True)
class Held:
    """A lease that the service gave with another answer."""

    # Before the request was sent, by `boot_time`.
    asked_at: float
    silence_s: float


class HeldLeases:
    """The leases that came with start grants, by the attempt's key, in memory.

    An agent that is started again asks for a lease: the attempt may be over by then.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[str, Held] = {}

    def put(self, attempt_key: str, lease: Held) -> None:
        """Keep a lease for the upload of an attempt."""
        with self._lock:
            # Attempts that upload nothing leave theirs. Another one is asked for.
            while len(self._held) >= _MOST_HELD:
                del self._held[next(iter(self._held))]
            self._held[attempt_key] = lease

    def take(self, attempt_key: str) -> Held | None:
        """Return the lease of an attempt, once; None if there is none."""
        with self._lock:
            return self._held.pop(attempt_key, None)


class UploadLease:
    """One attempt's lease. Safe for several threads.

    Parameters
    ----------
    ask
        Asks the service for the lease, with a timeout in seconds. Returns the service's silence
        limit in seconds, None from an older service. Raises ServiceError; StaleError if the attempt
        is over.
    stop
        Ends all waits.
    period
        Seconds between two renewals. Default: a quarter of the lease's life.
    held
        The lease that the attempt has already.
    """

    def __init__(
        self,
        ask: Callable[[float], float | None],
        stop: Stop,
        period: float | None = None,
        clock: Callable[[], float] = boot_time,
        held: Held | None = None,
    ) -> None:
        self._ask = ask
        self._stop = stop
        self._fixed_period = period
        self._clock = clock
        self._life = _DEFAULT_SILENCE / 2
        self._changed = threading.Condition()
        self._renewed_at: float | None = None
        if held is not None:
            self._life = max(_SHORTEST_LIFE, held.silence_s / 2)
            self._renewed_at = held.asked_at
        self._doubted_at = float("-inf")
        self._ends_early = threading.Event()
        #: Set when the service has abandoned the attempt.
        self.withdrawn = threading.Event()

    @property
    def _period(self) -> float:
        return self._fixed_period or self._life / _RENEWALS_A_LIFE

    def renew(self) -> None:
        """Renew the lease once. Raises ServiceError."""
        # Taken before the request: the service counts from its arrival, which is later.
        asked_at = self._clock()
        silence = self._ask(max(1.0, self._life / _RENEWALS_A_LIFE))
        with self._changed:
            if silence is not None:
                self._life = max(_SHORTEST_LIFE, silence / 2)
            self._renewed_at = asked_at
            self._changed.notify_all()

    def is_due(self) -> bool:
        """Return whether the lease should be renewed now."""
        return self._until_due() <= 0.0

    def _until_due(self) -> float:
        if self._renewed_at is None:
            return 0.0
        return self._renewed_at + self._period - self._clock()

    def is_fresh(self) -> bool:
        """Return whether a write may begin or go on now."""
        renewed_at = self._renewed_at
        return renewed_at is not None and self._clock() - renewed_at < self._life

    def wait(self) -> None:
        """Wait until a write may begin. Raises StoppedError if the upload must end."""
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
        """Check a running write. Raises LeaseTooOldError or StoppedError if it must be aborted."""
        if self._stop.is_set() or self.withdrawn.is_set():
            raise StoppedError
        if not self.is_fresh():
            raise LeaseTooOldError

    def doubt(self) -> None:
        """Let the next write begin only after a renewal that is sent from now on."""
        self._doubted_at = self._clock()
        self._ends_early.set()

    def _is_doubted(self) -> bool:
        return self._renewed_at is None or self._renewed_at < self._doubted_at

    def withdraw(self) -> None:
        """End the upload: the service has abandoned the attempt."""
        self.withdrawn.set()
        with self._changed:
            self._changed.notify_all()

    @contextmanager
    def renewed(self, what: dict[str, object]) -> Iterator[None]:
        """Renew the lease in a thread of its own while the block runs.

        `what` are fields for the log.
        """
        done = threading.Event()

        def keep_renewing() -> None:
            pause = max(0.0, self._until_due())
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
                    # Asking every second does not change the answer.
                    log.warning("the upload's lease is not renewed: %s", error, extra=what)
                    pause = self._period
                except Exception:
                    log.exception("renewing an upload's lease failed unexpectedly", extra=what)
                    pause = min(1.0, self._period)

        # Not joined: its call may hang when there is nothing to renew any more.
        threading.Thread(target=keep_renewing, name="renew", daemon=True).start()
        try:
            yield
        finally:
            done.set()
            self._ends_early.set()
