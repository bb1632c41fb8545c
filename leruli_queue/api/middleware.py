"""Around every request: its id, its line in the log, the limit of its body.

Plain ASGI, because Starlette's own middleware class costs a task a request.
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
    """Refuses a body that is too large before it is in memory, and one that does not arrive.

    No secret has been seen when a body is read, so what all of them hold has a bound. A client's
    body is there within a moment; for what is above the bound, the one goes that has been arriving
    longest.
    """

    def __init__(self, app: ASGIApp, *, most: int, most_of_all: int, seconds: float) -> None:
        self._app = app
        self._most = most
        self._most_of_all = most_of_all
        self._seconds = seconds
        self._held = 0
        # In the order in which they began.
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
            if body.is_here:
                return await receive()  # waits for the client to go: there is no time for that
            message = await self._receive_in_time(receive, body)
            self._hold(body, len(message.get("body", b"")))
            if body.declared_too_large or body.held > self._most:
                raise _refused(
                    413, f"The body is larger than {self._most} bytes; send fewer jobs in one post"
                )
            if not message.get("more_body"):
                body.is_here = True
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
                "The service reads too many large bodies at once. Nothing was taken or lost; try "
                "again in a moment",
                {"Retry-After": "2"},
            )
        raise _refused(408, f"The body did not arrive within {self._seconds:g} seconds")

    def _hold(self, body: _Body, count: int) -> None:
        body.held += count
        self._held += count
        while self._held > self._most_of_all and self._arriving:
            oldest = next(iter(self._arriving))
            log.warning("the bodies of requests need too much memory; one is refused")
            del self._arriving[oldest]
            self._held -= oldest.held
            oldest.drop()


class _Body:
    """The body of a request, as far as it has arrived."""

    def __init__(self) -> None:
        self.held = 0
        self.is_here = self.is_dropped = self.declared_too_large = False
        self.until = 0.0
        self.limit: asyncio.Timeout | None = None

    def drop(self) -> None:
        """Have it refused where it is waited for; what it held is not counted any more."""
        self.is_dropped, self.held = True, 0
        if self.limit is not None and not self.limit.expired():
            self.limit.reschedule(asyncio.get_running_loop().time())


def _refused(status: int, sentence: str, headers: dict[str, str] | None = None) -> HTTPException:
    """Return what is raised where the route reads its body; answered as any other refusal.

    The connection is closed, for the rest of the body would come on it.
    """
    return HTTPException(status, sentence, {"Connection": "close"} | (headers or {}))
