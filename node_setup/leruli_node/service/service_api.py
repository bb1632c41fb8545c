"""The calls to the service, and the errors that its refusals become."""

from __future__ import annotations

import json
import logging
import threading
from typing import Any

import urllib3

from leruli_node import __version__
from leruli_node.errors import StoppedError, describe
from leruli_node.model import AttemptId
from leruli_node.retry import Backoff, Stop, only_first, retrying
from leruli_node.service.connections import connections_to

log = logging.getLogger(__name__)

_CONNECT_S = 10.0
REQUEST_ID = "X-Request-ID"
"""A header of every answer of the service. Each refusal also has a ``detail``."""


class ServiceError(Exception):
    """Base of all errors of a call. The text is the service's own sentence."""


class UnreachableError(ServiceError):
    """No answer, or one that says "later": the same call can be repeated."""

    def __init__(self, sentence: str, retry_after: float = 0.0) -> None:
        super().__init__(sentence)
        self.retry_after = retry_after


class RefusedError(ServiceError):
    """401 or 403 of the service itself: the secret or token is not valid (any more)."""


class StaleError(ServiceError):
    """409: the service does not need this attempt any more; drop it."""


class RejectedError(ServiceError):
    """Any other 4xx: agent and service disagree about the call itself."""


class ServiceApi:
    """Calls to the service. Safe for several threads.

    `token` is the node token of the latest join. Before the join, calls about attempts raise
    UnreachableError, so that they wait as they do while the service is away.
    """

    def __init__(self, base_url: str, timeout: float = 30.0) -> None:
        self._base_url = f"{base_url}/v22_1/"
        self._http = connections_to(base_url)
        self._timeout = timeout
        self._headers = {
            "User-Agent": f"leruli-node/{__version__}",
            "Content-Type": "application/json",
        }
        self._lock = threading.Lock()
        self._token: str | None = None

    def set_token(self, token: str) -> None:
        """Use this node token from now on."""
        with self._lock:
            self._token = token

    def join(self, body: dict[str, Any]) -> dict[str, Any]:
        """Call node-join: {"nodeid", "nodetoken", "nomad": {…}, "tls": {…}, "imageprefix", …}."""
        return self._post("node-join", body)

    def leave(self) -> int:
        """Call node-leave. Return how many attempts the service believes to run on this node."""
        return int(self._post("node-leave", self._with_token()).get("running", 0))

    def report(self, body: dict[str, Any], timeout: float | None = None) -> dict[str, Any]:
        """Call node-report. With `known` the service may hold its answer back.

        Returns
        -------
        {"standing", "reason", "drop": [{"jobid", "attempt"}], "cancel", "reportseconds", "said"}
        """
        return self._post("node-report", {**body, **self._with_token()}, timeout)

    def certificate(self, request: str) -> dict[str, Any]:
        """Call node-certificate: {"ca", "certificate", "validseconds"}."""
        return self._post("node-certificate", {**self._with_token(), "csr": request})

    def start(self, attempt: AttemptId, startkey: str) -> dict[str, Any]:
        """Call attempt-start. The same startkey can be sent again and gets the same answer.

        This agent marks its objects, so the grant is its first upload lease too.
        """
        return self._post("attempt-start", self._about(attempt, startkey=startkey, marks=True))

    def may_upload(self, attempt: AttemptId, timeout: float | None = None) -> float | None:
        """Call attempt-upload, which grants or renews the upload lease.

        Returns
        -------
        The seconds for which a node may be silent before its attempts are abandoned. None from an
        older service.
        """
        answer = self._post("attempt-upload", self._about(attempt, marks=True), timeout)
        silence = answer.get("silenceseconds")
        return float(silence) if isinstance(silence, (int, float)) else None

    def end(self, receipt: dict[str, Any]) -> None:
        """Call attempt-end, which hands in a receipt. Can be repeated."""
        self._post("attempt-end", {**receipt, **self._with_token()})

    def slot_next(self, body: dict[str, Any]) -> dict[str, Any]:
        """slot-next: {"receipts": […], "slots": [{"jobid", "attempt", "next": […]}]}."""
        return self._post("slot-next", {**body, **self._with_token()})

    def until_answered(self, call: Any, backoff: Backoff, *args: Any) -> Any:
        """Repeat a call until the service answers.

        Raises
        ------
        UnreachableError
            The retry time is over.
        StoppedError
            The agent is being stopped.
        """

        def report(error: Exception) -> None:
            log.warning("the service cannot be reached; trying again: %s", error)

        return retrying(lambda: call(*args), UnreachableError, backoff, only_first(report))

    def close(self) -> None:
        """Close the connections."""
        self._http.clear()

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
        seconds = self._timeout if timeout is None else timeout
        try:
            response = self._http.urlopen(
                "POST",
                self._base_url + path,
                redirect=False,
                headers=self._headers,
                body=json.dumps(body).encode(),
                timeout=urllib3.Timeout(connect=min(_CONNECT_S, seconds), read=seconds),
            )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise UnreachableError(f"{path}: {describe(error)}") from None
        try:
            answer = json.loads(response.data)
        except ValueError:
            answer = None
        code = response.status
        detail = answer.get("detail") if isinstance(answer, dict) else None
        sentence = detail if isinstance(detail, str) else f"{path}: HTTP {code}"
        if code == 200 and isinstance(answer, dict):
            return answer
        retry_after = _seconds(response.headers.get("Retry-After"))
        # The answer of a proxy or of another program at this address is not the service's.
        if REQUEST_ID not in response.headers or not isinstance(detail, str):
            raise UnreachableError(f"{path}: HTTP {code}, which is not the service's", retry_after)
        # A 404 says nothing about an attempt: the address leads to another program.
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
    """Call node-join until the service answers. Raises RefusedError and RejectedError."""
    try:
        answer = api.until_answered(api.join, Backoff(stop), body)
    except UnreachableError as error:  # pragma: no cover - this back-off has no end
        raise StoppedError from error
    return dict(answer)
