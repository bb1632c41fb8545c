"""Cancelling work that runs in other threads.

Python cannot end a thread from outside, and after Ctrl-C nobody wants to wait for gigabytes. So
work in threads calls `check_cancelled` now and then, which raises `StoppedError` once the work is
cancelled. A report of progress (`advance`) checks too.
"""

from __future__ import annotations

from collections.abc import Callable

#: Raises StoppedError if the work is cancelled.
CheckCancelled = Callable[[], None]

#: Takes an amount of progress, such as bytes. In a working thread it may raise StoppedError.
Advance = Callable[[int], None]


def never_cancelled() -> None:
    """Check work that nobody cancels."""


class StoppedError(Exception):
    """Ends a working thread after the work was cancelled. Never reaches a user."""


class StopSwitch:
    """Takes reports of progress from working threads, and cancels their work on demand."""

    def __init__(self, advance: Advance) -> None:
        self._advance = advance
        self.is_off = False

    def switch_off(self) -> None:
        """Cancel the work: each thread ends at its next report or check."""
        self.is_off = True

    def check_cancelled(self) -> None:
        """Raise StoppedError if the work was cancelled."""
        if self.is_off:
            raise StoppedError

    def advance(self, done: int) -> None:
        """Pass on a report of progress; raises StoppedError if the work was cancelled."""
        self.check_cancelled()
        self._advance(done)
