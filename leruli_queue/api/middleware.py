"""Middleware of every request: its id, its log line, and the limits of its body.

Plain ASGI, because Starlette's own middleware class makes a task for each request.
"""

from __future__ import annotations

import asyncio
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
    """Gives each request an id for its log lines and its answer, logs it and counts it."""

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
                        # An unknown path may hold a pasted secret or the name of a bucket.
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
    """Refuses a body that is too large, before it is in memory, and one that does not arrive.

    Bodies are read before any secret is checked, so all bodies together have a limit, too. A body
    normally arrives within a moment. So if the limit is exceeded, the body that has been arriving
    for longest is refused.

    Parameters
    ----------
    most
        Bytes of one body.
    most_of_all
        Bytes of all bodies in this process.
    seconds
        Time in which a body must arrive.
    """

    def __init__(self, app: ASGIApp, *, most: int, most_of_all: int, seconds: float) -> None:
        self._app = app
        self._most = most
        self._most_of_all = most_of_all
        self._seconds = seconds
        self._held = 0
        # Bodies that are arriving, the oldest first.
        self._arriving: dict[_Body, None] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "0")
        body = _Body()
        if declared.isdigit() and int(declared) > self._most:
            body.declared_too_large = True

        async def receive_counted() -> Message:
            if body.is_complete:
                return await receive()  # waits until the client disconnects, without a timeout
            message = await self._receive_in_time(receive, body)
            self._hold(body, len(message.get("body", b"")))
            if body.declared_too_large or body.held > self._most:
                raise _refused(
                    413,
                    f"The body is larger than {self._most} bytes; send fewer jobs in one request",
                )
            if not message.get("more_body"):
                body.is_complete = True
                self._arriving.pop(body, None)
            return message

        try:
            await self._app(scope, receive_counted, send)
        finally:
            self._held -= body.held
            self._arriving.pop(body, None)

    async def _receive_in_time(self, receive: Receive, body: _Body) -> Message:
        clock = asyncio.get_running_loop()
        if not body.until:
            self._arriving[body] = None
            body.until = clock.time() + self._seconds
        if not body.is_dropped:
            try:
                async with asyncio.timeout_at(body.until) as body.limit:
                    return await receive()
            except TimeoutError:
                pass
        if body.is_dropped:
            raise _refused(
                503,
                "The service reads too many large bodies at once. Nothing was changed or lost; try "
                "again in a moment",
                {"Retry-After": "2"},
            )
        raise _refused(408, f"The body did not arrive within {self._seconds:g} seconds")

    def _hold(self, body: _Body, count: int) -> None:
        body.held += count
        self._held += count
        while self._held > self._most_of_all and self._arriving:
            oldest = next(iter(self._arriving))
            log.warning("the bodies of all requests need too much memory; the oldest is refused")
            del self._arriving[oldest]
            self._held -= oldest.held
            oldest.drop()


class _Body:
    """The body of a request while it arrives."""

    def __init__(self) -> None:
        self.held = 0
        self.is_complete = self.is_dropped = self.declared_too_large = False
        self.until = 0.0
        self.limit: asyncio.Timeout | None = None

    def drop(self) -> None:
        """Have the waiting request refused, and count its bytes no more."""
        self.is_dropped, self.held = True, 0
        if self.limit is not None and not self.limit.expired():
            self.limit.reschedule(asyncio.get_running_loop().time())


def _refused(status: int, sentence: str, headers: dict[str, str] | None = None) -> HTTPException:
    """Return the error that is raised where the route reads its body.

    The connection is closed, because the rest of the body would still arrive on it.
    """
    return HTTPException(status, sentence, {"Connection": "close"} | (headers or {}))
