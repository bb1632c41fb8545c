"""Receipts that go together in the next call of the slots. Their files are on the disk, as all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from leruli_node.model import AttemptId


def id_of(body: dict[str, Any]) -> str:
    """Return the id of a receipt's attempt."""
    return AttemptId(body["jobid"], body["attempt"]).id


class GatheredReceipts:
    """The receipts that have not been tried yet, by the attempt's id. Safe for several threads.

    A receipt is `held` until its attempt is cleaned up, `ready` until a call takes it, and in that
    call until the call is over.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._all: dict[str, dict[str, Any]] = {}
        self._ready: dict[str, dict[str, Any]] = {}
        self._wake: Callable[[], None] = lambda: None

    def __contains__(self, attempt_id: str) -> bool:
        """Return whether this receipt is left to the call of the slots."""
        return attempt_id in self._all

    def call_with(self, wake: Callable[[], None]) -> None:
        """Have `wake` called when a receipt is ready."""
        self._wake = wake

    def hold(self, body: dict[str, Any]) -> None:
        """Keep a receipt; it is not ready."""
        with self._lock:
            self._all[id_of(body)] = body

    def ready(self, attempt: AttemptId) -> None:
        """Let the next call take a receipt that is held."""
        with self._lock:
            body = self._all.get(attempt.id)
            if body is None:
                return
            self._ready[attempt.id] = body
        self._wake()

    def has_ready(self) -> bool:
        """Return whether a receipt is ready."""
        return bool(self._ready)

    def take(self, most: int) -> list[dict[str, Any]]:
        """Return receipts for one call. Forget them when the call is over."""
        with self._lock:
            taken = list(self._ready.values())[:most]
            for body in taken:
                del self._ready[id_of(body)]
            return taken

    def forget(self, bodies: Sequence[dict[str, Any]]) -> None:
        """Leave receipts to be delivered each by itself, if they were not."""
        with self._lock:
            for body in bodies:
                self._all.pop(id_of(body), None)
                self._ready.pop(id_of(body), None)

    def clear(self) -> None:
        """Leave all receipts to be delivered each by itself."""
        with self._lock:
            self._all.clear()
            self._ready.clear()
