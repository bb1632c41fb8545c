"""Calls to a service that is killed now and then: repeated until they are answered."""

from __future__ import annotations

import threading
import time
from typing import Any

import httpx
import orjson

from soak.ledger import Ledger

# What is answered while a part is away; every call of ours may be repeated.
_LATER = frozenset({502, 503, 504})
_PAUSE_S = 0.3
_PATIENCE_S = 180.0


class GaveUpError(Exception):
    """The service refused a call, or did not answer it within the patience."""


class Line:
    """A line to the service; for use by several threads at once."""

    def __init__(self, base_url: str, ledger: Ledger) -> None:
        self._http = httpx.Client(
            base_url=f"{base_url}/v22_1/", timeout=httpx.Timeout(30, connect=5), trust_env=False
        )
        self._ledger = ledger
        self.stop = threading.Event()

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def hurry(self, path: str, body: Any) -> None:
        """Send a call, and be gone before it is answered."""
        try:
            self._http.post(path, content=_json(body), headers=_HEADERS, timeout=0.01)
        except httpx.TransportError:
            self._ledger.count("answers that were not waited for")

    def post(self, path: str, body: Any) -> Any:
        """Send a call until it is answered, and return the answer.

        Raises
        ------
        GaveUpError
        """
        content = _json(body)
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            pause = _PAUSE_S
            try:
                answer = self._http.post(path, content=content, headers=_HEADERS)
            except httpx.TransportError as error:
                why = f"{type(error).__name__}: {error}"
                self._ledger.count("calls repeated: the connection broke")
            else:
                if answer.status_code == 200:
                    return answer.json()
                why = f"{answer.status_code}: {answer.text[:300]}"
                if answer.status_code not in _LATER:
                    raise GaveUpError(f"{path} was answered with {why}")
                self._ledger.count(f"calls repeated: {answer.status_code}")
                # A person's client waits as long as it is told; a soak is in a hurry.
                pause = min(float(answer.headers.get("retry-after", pause)), 2.0)
            if time.monotonic() > deadline or self.stop.wait(pause):
                raise GaveUpError(f"{path} was not answered within {_PATIENCE_S:.0f} s; last {why}")


_HEADERS = {"Content-Type": "application/json"}


def _json(body: Any) -> bytes:
    return orjson.dumps(body)
