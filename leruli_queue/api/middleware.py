"""Around every request: its id, its line in the log, the limit of its body.

Plain ASGI, because Starlette's own middleware class costs a task a request.
"""

from __future__ import annotations

import re
import time
from uuid import uuid4

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from leruli_queue.access.secrets import refuse_secrets
from leruli_queue.api.metrics import OTHER, Metrics, call_of

log = structlog.get_logger("leruli_queue.request")

REQUEST_ID = "X-Request-ID"
_ACCEPTED_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_QUIET = frozenset({"/livez", "/readyz", "/metrics"})


class RequestLog:
    """Gives each request an id, which stands in all its log lines and in the answer; counts it."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(REQUEST_ID, "")
        request_id = given if _is_accepted(given) else uuid4().hex
        status = 500

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID] = request_id
            await send(message)

        began = time.perf_counter()
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, receive, send_with_id)
            finally:
                seconds = time.perf_counter() - began
                call = call_of(scope["path"])
                self._metrics.count(call, status, seconds)
                if scope["path"] not in _QUIET:
                    log.info(
                        "request",
                        method=scope["method"],
                        # Any other one may hold what somebody pasted: a secret, a bucket's name.
                        path=scope["path"] if call != OTHER else OTHER,
                        status=status,
                        milliseconds=round(1000 * seconds, 1),
                    )


def _is_accepted(request_id: str) -> bool:
    try:
        return _ACCEPTED_ID.fullmatch(refuse_secrets(request_id)) is not None
    except ValueError:
        return False


class BodyLimit:
    """Refuses a body that is too large before it is in memory."""

    def __init__(self, app: ASGIApp, *, most: int) -> None:
        self._app = app
        self._most = most
        self._message = f"The body is larger than {most} bytes; send fewer jobs in one post"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "0")
        received = int(declared) if declared.isdigit() and int(declared) > self._most else 0

        async def receive_counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._most:
                # Raised where the route reads its body; answered as any other refusal.
                raise HTTPException(413, self._message)
            return message

        await self._app(scope, receive_counted, send)
