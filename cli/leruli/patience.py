"""Waiting for an object storage that is away for a while, in work that takes longer than that."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from leruli.errors import StorageAwayError

_Result = TypeVar("_Result")

_PATIENCE = 120.0  # seconds
_PAUSE = 2.0
# Work that is called off ends within this.
_STEP = 0.2


class Patience:
    """Goes on trying while the storage does not answer; for use by several threads at once."""

    def __init__(self, seconds: float | None, notice: Callable[[str], None]) -> None:
        """Try for `seconds` (None: as long as is sensible); `notice` is told once an absence."""
        self._seconds = _PATIENCE if seconds is None else seconds
        self._notice = notice
        self._lock = threading.Lock()
        self._is_away = False

    def through(self, work: Callable[[], _Result], proceed: Callable[[int], None]) -> _Result:
        """Do `work`, from its beginning after each failure; return what it returns.

        `proceed` is called (with 0) while waiting, and may raise to end it. Raises StorageAwayError
        when the patience is used up.
        """
        deadline: float | None = None
        while True:
            try:
                result = work()
            except StorageAwayError as error:
                now = time.monotonic()
                deadline = now + self._seconds if deadline is None else deadline
                if now >= deadline:
                    raise
                self._tell(error, deadline - now)
            else:
                self._is_away = False
                return result
            # The last try is made when the time is up, and not before.
            end = min(time.monotonic() + _PAUSE, deadline)
            while time.monotonic() < end:
                time.sleep(_STEP)
                proceed(0)

    def _tell(self, error: StorageAwayError, seconds: float) -> None:
        with self._lock:
            if self._is_away:
                return
            self._is_away = True
        self._notice(f"{error.what} Waiting for it, for up to {seconds:.0f} s.")
