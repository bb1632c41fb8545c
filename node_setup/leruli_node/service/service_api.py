"""The calls to the service, and what its refusals mean."""

from __future__ import annotations

import logging
import threading
from typing import Any

import httpx

from leruli_node import __version__
from leruli_node.errors import StoppedError, describe
from leruli_node.model import AttemptId
from leruli_node.retry import Backoff, Stop, only_first, retrying

log = logging.getLogger(__name__)

REQUEST_ID = "X-Request-ID"
"""Stands in every answer of the service, beside a ``detail`` in each refusal."""


class ServiceError(Exception):
    """Root of what a call can end as; the text is the service's own sentence."""


class UnreachableError(ServiceError):
    """No answer, or one that says "later": the same call can be repeated as it is."""

    def __init__(self, sentence: str, retry_after: float = 0.0) -> None:
        super().__init__(sentence)
        self.retry_after = retry_after


class RefusedError(ServiceError):
    """401 or 403 of the service itself: the secret or token is not good (any more)."""


class StaleError(ServiceError):
    """409: the service has nothing to do with this attempt any more; drop it."""


class RejectedError(ServiceError):
    """Any other 4xx: agent and service disagree about the call itself."""


class ServiceApi:
    """Calls to the service; safe to use from several threads.

    `token` is the node token of the latest join. Until then calls about attempts raise
    UnreachableError, so that they wait like they do while the service is away.
    """

    def __init__(self, base_url: str, timeout: float = 30.0) -> None:
        self._client = httpx.Client(
            base_url=base_url + "/v22_1/",
            timeout=httpx.Timeout(timeout, connect=10.0),
            headers={"User-Agent": f"leruli-node/{__version__}"},
            limits=httpx.Limits(max_keepalive_connections=4, keepalive_expiry=20.0),
        )
        self._lock = threading.Lock()
        self._token: str | None = None

    def set_token(self, token: str) -> None:
        """Use this node token from now on."""
        with self._lock:
            self._token = token

    def join(self, body: dict[str, Any]) -> dict[str, Any]:
        """node-join: {"nodeid", "nodetoken", "nomad": {…}, "tls": {…}, "imageprefix", …}."""
        return self._post("node-join", body)

    def leave(self) -> int:
        """node-leave: how many attempts the service believes to be on this node."""
        return int(self._post("node-leave", self._with_token()).get("running", 0))

    def report(self, body: dict[str, Any]) -> dict[str, Any]:
        """node-report: {"standing", "reason", "drop": [{"jobid", "attempt"}], "reportseconds"}."""
        return self._post("node-report", {**body, **self._with_token()})

    def certificate(self, request: str) -> dict[str, Any]:
        """node-certificate: {"ca", "certificate", "validseconds"}."""
        return self._post("node-certificate", {**self._with_token(), "csr": request})

    def start(self, attempt: AttemptId, startkey: str) -> dict[str, Any]:
        """attempt-start; the same startkey can be sent again and gets the same answer."""
        return self._post("attempt-start", self._about(attempt, startkey=startkey))

    def may_upload(self, attempt: AttemptId, timeout: float | None = None) -> float | None:
        """attempt-upload: returns when the attempt is still the current one.

        Answers for how many seconds a node may be silent before its attempts are abandoned; None
        where the service, an older one, does not say it.
        """
        answer = self._post("attempt-upload", self._about(attempt, marks=True), timeout)
        silence = answer.get("silenceseconds")
        return float(silence) if isinstance(silence, (int, float)) else None

    def end(self, receipt: dict[str, Any]) -> None:
        """attempt-end: hand in a receipt; repeatable."""
        self._post("attempt-end", {**receipt, **self._with_token()})

    def patiently(self, call: Any, backoff: Backoff, *args: Any) -> Any:
        """Repeat a call until it is answered.

        Raises UnreachableError when the back-off's time is over, StoppedError when to stop.
        """

        def report(error: Exception) -> None:
            log.warning("the service cannot be reached; trying again: %s", error)

        return retrying(lambda: call(*args), UnreachableError, backoff, only_first(report))

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _with_token(self) -> dict[str, Any]:
        with self._lock:
            if self._token is None:
                raise UnreachableError("this node has not joined yet")
            return {"nodetoken": self._token}

    def _about(self, attempt: AttemptId, **more: Any) -> dict[str, Any]:
        return {**self._with_token(), "jobid": attempt.job, "attempt": attempt.attempt, **more}

    def _post(
        self, path: str, body: dict[str, Any], timeout: float | None = None
    ) -> dict[str, Any]:
        limit = httpx.USE_CLIENT_DEFAULT if timeout is None else httpx.Timeout(timeout)
        try:
            response = self._client.post(path, json=body, timeout=limit)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise UnreachableError(f"{path}: {describe(error)}") from None
        try:
            answer = response.json()
        except ValueError:
            answer = None
        code = response.status_code
        detail = answer.get("detail") if isinstance(answer, dict) else None
        sentence = detail if isinstance(detail, str) else f"{path}: HTTP {code}"
        if code == 200 and isinstance(answer, dict):
            return answer
        retry_after = _seconds(response.headers.get("Retry-After"))
        # What a proxy or another program says at this address is no word of the service.
        if REQUEST_ID not in response.headers or not isinstance(detail, str):
            raise UnreachableError(f"{path}: HTTP {code}, which is not the service's", retry_after)
        # A 404 is no word about an attempt: the address leads to something else.
        if code in (404, 408, 425, 429) or code >= 500 or code < 400:
            raise UnreachableError(sentence, retry_after)
        if code in (401, 403):
            raise RefusedError(sentence)
        if code == 409:
            raise StaleError(sentence)
        raise RejectedError(sentence)


def _seconds(text: str | None) -> float:
    return min(60.0, float(text)) if text is not None and text.isdigit() else 0.0


def wait_for_service(api: ServiceApi, body: dict[str, Any], stop: Stop) -> dict[str, Any]:
    """node-join until it is answered; RefusedError and RejectedError as they come."""
    try:
        answer = api.patiently(api.join, Backoff(stop), body)
    except UnreachableError as error:  # pragma: no cover - that back-off has no end
        raise StoppedError from error
    return dict(answer)
