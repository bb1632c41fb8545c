"""What one connection may cost the service before its request is there.

A request that does not arrive holds a connection, and nothing of it can be told from one that will:
so each has a time, and where connections run out, the one that has been waited for longest is
closed. An answer has no time: it may be waited for (docs/admins/operate.md, Slow clients).
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

from leruli_queue.settings import load_settings

log = structlog.get_logger(__name__)

_MOST_HEADER_BYTES = 64 * 1024
# Files that the process holds beside its clients' connections and the database's.
_OTHER_FILES = 100
_FEWEST = 10
# Who reads a body answers that it did not arrive (middleware.py); this is for those nobody reads.
_ANSWERED_WITHIN_S = 2.0

_arriving: WeakKeyDictionary[ServerState, dict[Connection, None]] = WeakKeyDictionary()
"""Of each server the connections whose next request is not there yet, the longest first."""


def raise_file_limit() -> None:
    """Let the process open as many files as it may; the usual limit is 1,024."""
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
        room = max(_FEWEST, files - _OTHER_FILES - settings.database_pool_size)
        self._most = min(settings.max_connections, room)
        self._header_s = settings.header_timeout_s
        self._body_s = settings.body_timeout_s + _ANSWERED_WITHIN_S
        self._arriving = _arriving.setdefault(server_state, {})
        self._limit: asyncio.TimerHandle | None = None
        # Bytes of a header that is not complete; None while none is waited for.
        self._header_bytes: int | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request, in the place of another connection where there are many."""
        super().connection_made(transport)
        self._wait_for_header()
        if len(self.connections) > self._most:
            log.warning("too many connections; one is closed", most=self._most)
            next(iter(self._arriving)).close_now()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._is_here()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on, unless the header does not end."""
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
        """Wait for nothing, or for the next request where this one was answered before its end."""
        super().on_message_complete()
        self._is_here()
        if self.cycle.response_complete:
            self._wait_for_header()

    def on_response_complete(self) -> None:
        """Wait for the next request, unless a part of this one, or another one, is there."""
        super().on_response_complete()
        if self._limit is None and not self.pipeline:
            self._wait_for_header()

    def close_now(self) -> None:
        """Close it, whatever is under way on it."""
        self._is_here()
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

    def _is_here(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None
        self._header_bytes = None
        self._arriving.pop(self, None)
