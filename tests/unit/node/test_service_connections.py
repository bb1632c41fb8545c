"""The agent's connections to the service: kept, by a proxy, and with a trusted certificate."""

from __future__ import annotations

import base64
import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from leruli_node.service.service_api import ServiceApi, UnreachableError
from leruli_queue.nodes.tls_folder import TlsFolder


class Listener(ThreadingHTTPServer):
    """A FAKE of the service, and a real HTTP proxy that leads every name to itself."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.connections = 0
        self.closes = False
        # Released for each connection that was closed after its answer.
        self.closed = threading.Semaphore(0)
        self.status = 200
        self.asked: list[tuple[str, str | None]] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Listener

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append((self.path, self.headers["Proxy-Authorization"]))
        self.send_response(self.server.status)
        self.send_header("Location", "/elsewhere")
        self.send_header("X-Request-ID", "r")
        self.send_header("Content-Length", "14")
        self.end_headers()
        self.wfile.write(b'{"running": 3}')
        if self.server.closes:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            self.server.closed.release()

    def do_CONNECT(self) -> None:
        self.server.asked.append((self.path, self.headers["Proxy-Authorization"]))
        host, port = self.path.split(":")
        with socket.create_connection((host, int(port))) as there:
            self.send_response(200)
            self.end_headers()
            back = threading.Thread(target=copy, args=(there, self.connection), daemon=True)
            back.start()
            copy(self.connection, there)
            back.join(10)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


def copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@pytest.fixture
def listener(monkeypatch: pytest.MonkeyPatch) -> Iterator[Listener]:
    for name in ("http", "https", "all", "no"):
        monkeypatch.delenv(f"{name}_proxy", raising=False)
        monkeypatch.delenv(f"{name.upper()}_PROXY", raising=False)
    made = Listener()
    yield made
    made.shutdown()
    made.server_close()


def ask(url: str, timeout: float = 10.0, times: int = 1) -> int:
    api = ServiceApi(url, timeout)
    api.set_token("t")
    try:
        return [api.leave() for _ in range(times)][-1]
    finally:
        api.close()


def test_a_connection_is_kept_while_the_service_keeps_it(listener: Listener) -> None:
    assert ask(f"http://{listener.address}", times=3) == 3
    assert listener.connections == 1
    listener.closes = True
    with contextlib.closing(ServiceApi(f"http://{listener.address}", 10.0)) as api:
        api.set_token("t")
        for _ in range(3):
            assert api.leave() == 3
            # A request that meets the end of its connection fails, and its caller repeats it.
            assert listener.closed.acquire(timeout=10)
    assert listener.connections == 4


def test_a_redirection_is_not_followed(listener: Listener) -> None:
    listener.status = 307
    with pytest.raises(UnreachableError):
        ask(f"http://{listener.address}")
    assert [path for path, _ in listener.asked] == ["/v22_1/node-leave"]


def test_a_service_that_hangs_is_not_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()
        with pytest.raises(UnreachableError, match="node-leave: ReadTimeoutError"):
            ask(url, timeout=0.3)
        assert time.monotonic() - began < 5


def test_the_proxy_of_the_environment_is_used(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY".lower(), f"http://a:p%40ss@{listener.address}")
    assert ask("http://queue.test") == 3
    named = "Basic " + base64.b64encode(b"a:p@ss").decode()
    assert listener.asked == [("http://queue.test/v22_1/node-leave", named)]
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert ask(f"http://{listener.address}") == 3
    assert listener.asked[1:] == [("/v22_1/node-leave", None)]


def test_only_a_trusted_certificate_is_accepted_also_through_a_proxy(
    listener: Listener, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tls = TlsFolder(tmp_path / "tls")
    tls.renew("global", (), days=1)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls.server, tls.server_key)
    service = Listener()
    service.socket = context.wrap_socket(service.socket, server_side=True)
    monkeypatch.setenv("https_proxy", listener.address)
    try:
        with pytest.raises(UnreachableError, match="node-leave: SSLError"):
            ask(f"https://{service.address}")
        monkeypatch.setenv("SSL_CERT_FILE", str(tls.ca))
        assert ask(f"https://{service.address}") == 3
        assert [path for path, _ in listener.asked] == [service.address] * 2
        assert service.asked == [("/v22_1/node-leave", None)]
    finally:
        service.shutdown()
        service.server_close()
