"""Waiting between tries: longer each time, with jitter, ended at once by an event."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import TypeVar, Union

from leruli_node.errors import StoppedError


class AnyEvent:
    """Several reasons to stop, waited for as one (each is looked at every 0.2 s)."""

    def __init__(self, *events: Stop) -> None:
        self._events = events

    def is_set(self) -> bool:
        """Whether one of the events is set."""
        return any(event.is_set() for event in self._events)

    def wait(self, timeout: float) -> bool:
        """Wait for at most `timeout` seconds; whether one of the events is set."""
        deadline = time.monotonic() + timeout
        while not self.is_set():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(0.2, left))
        return True


Stop = Union[threading.Event, AnyEvent]  # evaluated, also by Python 3.9
_Result = TypeVar("_Result")


class Backoff:
    """Delays of 0.5 s, doubled up to `longest`, each between half and all of it.

    `retry_for_s` (seconds) bounds the whole; None means for ever.
    """

    def __init__(
        self,
        stop: Stop,
        retry_for_s: float | None = None,
        longest: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stop = stop
        self._clock = clock
        self._deadline = None if retry_for_s is None else clock() + retry_for_s
        self._longest = longest
        self._delay = 0.5

    def pause(self, at_least: float = 0.0) -> bool:
        """Wait before the next try; False when that time is over, StoppedError when to stop."""
        delay = max(at_least, self._delay * random.uniform(0.5, 1.0))  # noqa: S311
        self._delay = min(self._longest, self._delay * 2)
        if self._deadline is not None:
            left = self._deadline - self._clock()
            if left <= 0:
                return False
            delay = min(delay, left)
        if self._stop.wait(delay):
            raise StoppedError
        return True


def retrying(
    call: Callable[[], _Result],
    on: type[Exception] | tuple[type[Exception], ...],
    backoff: Backoff,
    report: Callable[[Exception], None],
    final: tuple[type[Exception], ...] = (),
) -> _Result:
    """Repeat a call until it succeeds.

    Parameters
    ----------
    call
        Anything that can be done again after it failed.
    on
        The errors after which it is done again.
    backoff
        The pauses, and for how long. The `retry_after` (seconds) of an error is the shortest pause.
    report
        Called with each of these errors, before the pause.
    final
        Errors among `on` that end it all the same.

    Raises
    ------
    Exception
        The error of the last try when the time is over; at once those that are not in `on`.
    StoppedError
        The agent stops, or the attempt.
    """
    while True:
        try:
            return call()
        except final:
            raise
        except on as error:
            report(error)
            if not backoff.pause(getattr(error, "retry_after", 0.0)):
                raise


def only_first(report: Callable[[Exception], None]) -> Callable[[Exception], None]:
    """Report the first error alone: it is waited for, and the log need not repeat it."""
    reported = False

    def report_once(error: Exception) -> None:
        nonlocal reported
        if not reported:
            reported = True
            report(error)

    return report_once
