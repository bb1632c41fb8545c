"""Retry storage work while the object store does not answer, for many folders at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from leruli.cancellation import CheckCancelled
from leruli.errors import StorageAwayError

_Result = TypeVar("_Result")

_RETRY_FOR_S = 120.0
_PAUSE_S = 2.0
# Cancelled work ends within this.
_STEP_S = 0.2


class StorageRetry:
    """Retries work while the storage does not answer; safe for several threads."""

    def __init__(self, retry_for_s: float | None, notice: Callable[[str], None]) -> None:
        """Retry for `retry_for_s` seconds (None: 120); `notice` gets one sentence per outage."""
        self._retry_for_s = _RETRY_FOR_S if retry_for_s is None else retry_for_s
        self._notice = notice
        self._lock = threading.Lock()
        self._is_away = False

    def run(self, work: Callable[[], _Result], check_cancelled: CheckCancelled) -> _Result:
        """Call `work` and return its result; after a StorageAwayError call it again.

        Raises StorageAwayError when the retry time is over, and StoppedError (from
        `check_cancelled`) when the work is cancelled while it waits.
        """
        deadline: float | None = None
        while True:
            try:
                result = work()
            except StorageAwayError as error:
                now = time.monotonic()
                deadline = now + self._retry_for_s if deadline is None else deadline
                if now >= deadline:
                    raise
                self._tell(error, deadline - now)
            else:
                self._is_away = False
                return result
            # The last try happens exactly at the deadline.
            end = min(time.monotonic() + _PAUSE_S, deadline)
            while time.monotonic() < end:
                time.sleep(_STEP_S)
                check_cancelled()

    def _tell(self, error: StorageAwayError, seconds: float) -> None:
        with self._lock:
            if self._is_away:
                return
            self._is_away = True
        self._notice(f"{error.what} Waiting for it, for up to {seconds:.0f} s.")
