"""Retries with a growing pause and jitter. An event ends every wait at once."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import TypeVar, Union

from leruli_node.errors import StoppedError


class AnyEvent:
    """Several events, waited for as one. Each is polled every 0.2 s."""

    def __init__(self, *events: Stop) -> None:
        self._events = events

    def is_set(self) -> bool:
        """Return whether one of the events is set."""
        return any(event.is_set() for event in self._events)

    def wait(self, timeout: float) -> bool:
        """Wait for at most `timeout` seconds. Return whether one of the events is set."""
        deadline = time.monotonic() + timeout
        while not self.is_set():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(0.2, left))
        return True


Stop = Union[threading.Event, AnyEvent]  # evaluated at run time, also by Python 3.9
_Result = TypeVar("_Result")


class Backoff:
    """The pauses between tries: 0.5 s, doubled up to `longest`, each with jitter of 50 to 100 %.

    Parameters
    ----------
    stop
        Ends a pause.
    retry_for_s
        How long the tries go on, in seconds. None means without end.
    longest
        The longest pause in seconds.
    clock
        The clock that the retry time counts by.
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
        """Wait before the next try. Return False when the retry time is over.

        Raises
        ------
        StoppedError
            `stop` is set.
        """
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
        A call that can be repeated after it failed.
    on
        The errors after which the call is repeated.
    backoff
        The pauses and the retry time. `retry_after` (seconds) of an error is the shortest pause.
    report
        Called with each of these errors, before the pause.
    final
        Subclasses of `on` after which the call is not repeated.

    Raises
    ------
    Exception
        The last error when the retry time is over; at once an error that is not in `on`.
    StoppedError
        The agent or the attempt is being stopped.
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
    """Report the first error only, so that a long wait does not repeat it in the log."""
    reported = False

    def report_once(error: Exception) -> None:
        nonlocal reported
        if not reported:
            reported = True
            report(error)

    return report_once
