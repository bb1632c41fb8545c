"""Ending work that other threads have under way."""

from __future__ import annotations

from collections.abc import Callable


class StoppedError(Exception):
    """Raised in a working thread after the work was called off. Never reaches a user."""


class StopSwitch:
    """Takes reports of progress from working threads, and ends each at its next report once off.

    Python cannot end a thread from outside, and after Ctrl-C nobody wants to wait for gigabytes.
    """

    def __init__(self, advance: Callable[[int], None]) -> None:
        self._advance = advance
        self.is_off = False

    def switch_off(self) -> None:
        """Call the work off."""
        self.is_off = True

    def advance(self, done: int) -> None:
        """Pass on a report of progress; raises StoppedError if the work was called off."""
        if self.is_off:
            raise StoppedError
        self._advance(done)
