"""Docker's HTTP API over its unix socket, for the calls that each job needs.

The Docker SDK takes about 2 ms of CPU a call, most of it in general HTTP code. A short job needs
five calls. So these go over connections that are kept, with as much of HTTP as dockerd speaks.
"""

from __future__ import annotations

import json
import select
import socket
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

_END_OF_HEAD = b"\r\n\r\n"
_CHUNK = 2**16
# Connections that are kept for the next call.
_KEPT = 16


class DockerAnswerError(Exception):
    """Docker answered with an error."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class DockerHttp:
    """Calls to one dockerd. Safe for several threads.

    All calls raise OSError when dockerd cannot be reached or does not answer, and
    DockerAnswerError when it answers with an error.
    """

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        self._lock = threading.Lock()
        self._idle: list[socket.socket] = []
        # Calls that have no answer yet, by container.
        self._waiting: dict[str, _Pending] = {}

    def call(
        self,
        method: str,
        path: str,
        query: dict[str, str] | None = None,
        body: Any = None,
        timeout: float = 60.0,
    ) -> Any:
        """Call Docker. Return the parsed JSON of the answer, None if it is empty."""
        request = _request(method, path, query, body)
        kept = self._kept()
        if kept is not None:
            try:
                return self._ask(kept, request, timeout)
            except (ConnectionError, EOFError):
                # dockerd was restarted since. All these calls can be repeated.
                pass
        return self._ask(self._connect(timeout), request, timeout)

    def wait(self, container: str, seconds: float) -> bool:
        """Wait for the end of a container. Return whether it is over.

        The call goes on when this returns False, so that waiting for hours is one call.
        """
        with self._lock:
            pending = self._waiting.pop(container, None)
        if pending is None:
            path = f"/containers/{quote(container)}/wait"
            pending = _Pending(self._connect(60.0), _request("POST", path, None, None))
        try:
            answered = pending.poll(seconds)
        except BaseException:
            pending.connection.close()
            raise
        if not answered:
            with self._lock:
                self._waiting[container] = pending
            return False
        self._finish(pending)
        return True

    def _ask(self, connection: socket.socket, request: bytes, timeout: float) -> Any:
        pending = None
        try:
            pending = _Pending(connection, request)
            if not pending.poll(timeout):
                raise TimeoutError("Docker does not answer")
        except BaseException:
            connection.close()
            raise
        return self._finish(pending)

    def _finish(self, pending: _Pending) -> Any:
        """Keep the connection for the next call, and return the answer."""
        status, body = pending.answer
        with self._lock:
            if pending.can_be_kept and len(self._idle) < _KEPT:
                self._idle.append(pending.connection)
            else:
                pending.connection.close()
        if status >= 400:
            raise DockerAnswerError(status, _message(body))
        return json.loads(body) if body.strip() else None

    def _kept(self) -> socket.socket | None:
        with self._lock:
            return self._idle.pop() if self._idle else None

    def _connect(self, timeout: float) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(timeout)
            connection.connect(self._path)
        except BaseException:
            connection.close()
            raise
        return connection


class _Pending:
    """A request that was sent, and what has come of its answer."""

    def __init__(self, connection: socket.socket, request: bytes) -> None:
        self.connection = connection
        self.answer = (0, b"")
        self.can_be_kept = False
        self._received = b""
        connection.sendall(request)

    def poll(self, seconds: float) -> bool:
        """Wait for the answer. Return whether it is whole."""
        deadline = time.monotonic() + seconds
        poller = select.poll()
        poller.register(self.connection, select.POLLIN)
        while True:
            left = deadline - time.monotonic()
            if left <= 0 or not poller.poll(left * 1000):
                return False
            data = self.connection.recv(_CHUNK)
            if not data:
                raise EOFError("Docker closed the connection")
            self._received += data
            if self._is_whole():
                return True

    def _is_whole(self) -> bool:
        head, found, rest = self._received.partition(_END_OF_HEAD)
        if not found:
            return False
        lines = head.split(b"\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in lines[1:] if b": " in line)
        status = int(lines[0].split(b" ", 2)[1])
        body: bytes | None = b""
        if fields.get(b"transfer-encoding") == b"chunked":
            body = _dechunked(rest)
        elif status not in (204, 304):
            length = int(fields.get(b"content-length", b"0"))
            body = rest if len(rest) >= length else None
        if body is None:
            return False
        self.answer = (status, body)
        self.can_be_kept = head.startswith(b"HTTP/1.1") and fields.get(b"connection") != b"close"
        return True


def _request(method: str, path: str, query: dict[str, str] | None, body: Any) -> bytes:
    target = f"{path}?{urlencode(query)}" if query else path
    data = b"" if body is None else json.dumps(body).encode()
    head = (
        f"{method} {target} HTTP/1.1\r\nHost: docker\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(data)}\r\n\r\n"
    )
    return head.encode("ascii") + data


def _dechunked(data: bytes) -> bytes | None:
    """Return the content of a chunked body, None if it is not whole."""
    found = b""
    while True:
        size, line, rest = data.partition(b"\r\n")
        if not line:
            return None
        length = int(size.split(b";", 1)[0], 16)
        if len(rest) < length + 2:
            return None
        if length == 0:
            return found
        found, data = found + rest[:length], rest[length + 2 :]


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return body.decode("utf-8", "replace")[:200]
