"""Limits of a client's connection until its request has arrived.

A request that never arrives occupies a connection, and looks like one that is only slow. So headers
and bodies have a timeout. If there are too many connections, the one whose request has been awaited
for longest is closed. An answer has no timeout (docs/admins/operate.md, Slow clients).
"""

from __future__ import annotations

import asyncio
import resource
from typing import Any
from weakref import WeakKeyDictionary

import structlog
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from leruli_queue.api.held_reports import answer_held_reports
from leruli_queue.api.waiting import answer_waiting_calls
from leruli_queue.settings import load_settings

log = structlog.get_logger(__name__)

_MOST_HEADER_BYTES = 64 * 1024
# Files that the process has open besides connections of clients and to the database.
_OTHER_FILES = 100
_FEWEST = 10
# BodyLimit (middleware.py) answers 408 when a body does not arrive. The connection is closed this
# much later, which also ends bodies that no route reads.
_ANSWERED_WITHIN_S = 2.0

_arriving: WeakKeyDictionary[ServerState, dict[Connection, None]] = WeakKeyDictionary()
"""For each server the connections whose next request has not arrived, the oldest first."""


def raise_file_limit() -> None:
    """Raise the limit of open files to the hard limit. The usual soft limit is 1,024."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


class Connection(HttpToolsProtocol):
    """A client's connection."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        settings = load_settings()
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        available = max(_FEWEST, files - _OTHER_FILES - settings.database_pool_size)
        self._most = min(settings.max_connections, available)
        self._header_s = settings.header_timeout_s
        self._body_s = settings.body_timeout_s + _ANSWERED_WITHIN_S
        self._arriving = _arriving.setdefault(server_state, {})
        self._limit: asyncio.TimerHandle | None = None
        # Bytes of an incomplete header; None while no header is expected.
        self._header_bytes: int | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a request. If there are too many connections, close the oldest waiting one."""
        super().connection_made(transport)
        self._wait_for_header()
        if len(self.connections) > self._most:
            log.warning("too many connections; one is closed", most=self._most)
            next(iter(self._arriving)).close_now()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Process data. Close the connection if its header is too long."""
        if self._header_bytes is not None:
            self._header_bytes += len(data)
        super().data_received(data)
        if self._header_bytes is not None and self._header_bytes > _MOST_HEADER_BYTES:
            self.close_now()

    def on_headers_complete(self) -> None:
        """Wait for the body."""
        self._header_bytes = None
        self._wait(self._body_s)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Stop waiting. If the request was answered before its end, wait for the next one."""
        super().on_message_complete()
        self._stop_waiting()
        if self.cycle.response_complete:
            self._wait_for_header()

    def on_response_complete(self) -> None:
        """Wait for the next request, unless this one still arrives or another has arrived."""
        super().on_response_complete()
        if self._limit is None and not self.pipeline:
            self._wait_for_header()

    def shutdown(self) -> None:
        """Answer calls that wait: the server ends, and waits for their answers."""
        answer_waiting_calls()
        answer_held_reports()
        super().shutdown()

    def close_now(self) -> None:
        """Close the connection at once."""
        self._stop_waiting()
        if not self.transport.is_closing():
            self.transport.close()

    def _wait_for_header(self) -> None:
        self._header_bytes = 0
        self._wait(self._header_s)

    def _wait(self, seconds: float) -> None:
        if self._limit is not None:
            self._limit.cancel()
        self._limit = self.loop.call_later(seconds, self.close_now)
        self._arriving.setdefault(self)

    def _stop_waiting(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None
        self._header_bytes = None
        self._arriving.pop(self, None)
