"""Permissions to write to the store for live output, in place of an upload lease.

The names of live objects contain the attempt's number. So nobody else writes or needs these names.
"""

from __future__ import annotations

import threading

from leruli_node.clock import boottime
from leruli_node.errors import StoppedError

# Seconds after the last reply of the service that named an attempt. A report may wait for 60 s.
NAMED_FOR_S = 90.0


class FollowGuard:
    """Lets an attempt's live output be written while it is followed."""

    def __init__(self) -> None:
        self._closed = threading.Event()
        self._named_at = boottime()

    def name(self) -> None:
        """Note that the service names the attempt."""
        self._named_at = boottime()

    def close(self) -> None:
        """Forbid every further write."""
        self._closed.set()

    @property
    def is_over(self) -> bool:
        """Whether nothing may be written any more."""
        return self._closed.is_set() or boottime() - self._named_at > NAMED_FOR_S

    def wait(self) -> None:
        """Return at once, or raise StoppedError."""
        self.check()

    def check(self) -> None:
        """Raise StoppedError when nothing may be written any more."""
        if self.is_over:
            raise StoppedError


class RemovalGuard:
    """Lets live objects be removed when the attempt is over."""

    def wait(self) -> None:
        """Return at once."""

    def check(self) -> None:
        """Forbid nothing."""
