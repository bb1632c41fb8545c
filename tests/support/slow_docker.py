"""The real Docker behind a socket that can delay everything, cut some calls, or refuse a load."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from pathlib import Path

from passing_listener import PassingListener

_DOCKER = "/var/run/docker.sock"


class SlowDocker(PassingListener):
    """Passes connections on to Docker. New ones wait while it is held."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # Delayed connections.
        self.waiting = 0
        # The answer to `docker load` instead of Docker's: a FAKE.
        self.refusal: str | None = None
        self.refused = 0
        # Requests with this in their first line get no answer, as if Docker were killed.
        self.cut: bytes | None = None
        self._open = threading.Event()
        self._open.set()
        super().__init__(socket.socket(socket.AF_UNIX), str(path))

    def hold(self) -> None:
        """Delay new connections."""
        self._open.clear()

    def release(self) -> None:
        """Pass on delayed and new connections."""
        self._open.set()

    def serve(self, client: socket.socket) -> None:
        self.waiting += 1
        self._open.wait()
        self.waiting -= 1
        with client, socket.socket(socket.AF_UNIX) as docker:
            docker.connect(_DOCKER)
            back = threading.Thread(target=_pass_on, args=(docker, client), daemon=True)
            back.start()
            self._ask(client, docker)
            back.join()

    def _ask(self, client: socket.socket, docker: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                first = data.split(b"\r\n", 1)[0]
                if self.refusal is not None and b"/images/load" in first:
                    while not data.endswith(b"0\r\n\r\n"):
                        data = client.recv(65536)
                    self._refuse(client, self.refusal)
                    break
                if self.cut is not None and self.cut in first:
                    client.shutdown(socket.SHUT_RDWR)
                    break
                docker.sendall(data)
        with contextlib.suppress(OSError):
            docker.shutdown(socket.SHUT_WR)

    def _refuse(self, client: socket.socket, text: str) -> None:
        body = json.dumps({"errorDetail": {"message": text}, "error": text}).encode()
        head = f"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        client.sendall(head.encode() + body)
        client.shutdown(socket.SHUT_RDWR)
        self.refused += 1


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
