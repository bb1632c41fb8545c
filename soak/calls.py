"""Calls to a service that is killed now and then; they are repeated until it answers."""

from __future__ import annotations

import threading
import time
from typing import Any

import httpx
import orjson

from soak.ledger import Ledger

# Answers while a part is away. Every call of the soak may be repeated.
_LATER = frozenset({502, 503, 504})
_PAUSE_S = 0.3
_RETRY_FOR_S = 180.0


class CallFailedError(Exception):
    """The service refused a call, or did not answer it within the retry time."""


class Line:
    """Connections to the service, for use by several threads at once."""

    def __init__(self, base_url: str, ledger: Ledger) -> None:
        self._http = httpx.Client(
            base_url=f"{base_url}/v22_1/", timeout=httpx.Timeout(30, connect=5), trust_env=False
        )
        self._ledger = ledger
        self.stop = threading.Event()

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def hurry(self, path: str, body: Any) -> None:
        """Send a call, and close the connection before the answer comes."""
        try:
            self._http.post(path, content=_json(body), headers=_HEADERS, timeout=0.01)
        except httpx.TransportError:
            self._ledger.count("answers not waited for")

    def post(self, path: str, body: Any) -> Any:
        """Repeat a call until it is answered; return the answer.

        Raises
        ------
        CallFailedError
            If the service refuses the call, or does not answer within the retry time.
        """
        content = _json(body)
        deadline = time.monotonic() + _RETRY_FOR_S
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
                    raise CallFailedError(f"The service answered {path} with {why}")
                self._ledger.count(f"calls repeated: {answer.status_code}")
                # The soak ignores Retry-After, which the client obeys, to save time.
                pause = min(float(answer.headers.get("retry-after", pause)), 2.0)
            if time.monotonic() > deadline or self.stop.wait(pause):
                raise CallFailedError(
                    f"The service did not answer {path} within {_RETRY_FOR_S:.0f} s; last: {why}"
                )


_HEADERS = {"Content-Type": "application/json"}


def _json(body: Any) -> bytes:
    return orjson.dumps(body)
