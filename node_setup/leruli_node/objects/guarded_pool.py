"""HTTP connections to the store that send no write without the permission of a guard."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

import urllib3


class WriteGuard(Protocol):
    """Says whether this node may write now."""

    def wait(self) -> None:
        """Return when a write request may be sent. Raises StoppedError."""

    def check(self) -> None:
        """Raise if a request that is being sent must be aborted."""


class GuardedPool(urllib3.PoolManager):
    """Sends no request that changes the store without the permission of a guard."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._own = threading.local()

    @contextmanager
    def guarded(self, guard: WriteGuard) -> Iterator[None]:
        """Let this thread write within the block, as far as the guard allows."""
        self._own.guard = guard
        try:
            yield
        finally:
            del self._own.guard

    def urlopen(  # type: ignore[override]
        self, method: str, url: str, redirect: bool = True, **more: Any
    ) -> urllib3.BaseHTTPResponse:
        """Send a request. A write waits for the guard and is aborted when the guard says so."""
        if method not in ("GET", "HEAD") and not _ends_own_upload(method, url):
            guard: WriteGuard | None = getattr(self._own, "guard", None)
            if guard is None:
                raise RuntimeError("the agent writes to the store only under a lease")
            guard.wait()
            body = more.get("body")
            if isinstance(body, bytes) and body:
                more["body"] = _GuardedBody(body, guard)
            elif isinstance(body, _GuardedBody):  # repeated after a redirection
                body.seek(0)
        return super().urlopen(method, url, redirect=redirect, **more)


def _ends_own_upload(method: str, url: str) -> bool:
    # Aborting an upload in parts changes no object. Only this process knows the upload's id.
    return method == "DELETE" and "uploadId" in parse_qs(urlsplit(url).query)


class _GuardedBody:
    """A request's body that can be read only while the guard allows it."""

    def __init__(self, body: bytes, guard: WriteGuard) -> None:
        self._body = memoryview(body)
        self._guard = guard
        self._at = 0

    def read(self, size: int | None = None) -> bytes:
        self._guard.check()
        end = len(self._body) if size is None or size < 0 else self._at + size
        piece = self._body[self._at : end]
        self._at += len(piece)
        return bytes(piece)

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int) -> None:
        self._at = offset
