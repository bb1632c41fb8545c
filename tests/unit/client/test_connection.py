"""Connections to the queue: proxies, reuse, and certificates."""

from __future__ import annotations

import base64
import http.server
import json
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from leruli.errors import ServiceError
from leruli.service.connection import Connection
from leruli.settings import ServiceSettings
from leruli_queue.nodes.tls_folder import TlsFolder


class Listener(http.server.ThreadingHTTPServer):
    """A FAKE of the queue or of a proxy: it answers every POST and records it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[tuple[str, str | None]] = []  #: path, Proxy-Authorization
        self.connections = 0
        self.closes = False  #: close each connection after one answer, unannounced
        self.closed = threading.Semaphore(0)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Listener

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1

    def finish(self) -> None:
        super().finish()
        self.connection.close()
        self.server.closed.release()

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, self.headers["Proxy-Authorization"]))
        content = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        self.close_connection = self.server.closes

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def listener(monkeypatch: pytest.MonkeyPatch) -> Iterator[Listener]:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    made = Listener()
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


def connect(url: str) -> Connection:
    return Connection(ServiceSettings(url, "secret", 0.0))


def test_the_proxy_of_the_environment_is_used_with_its_password(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = listener.url.removeprefix("http://")
    monkeypatch.setenv("http_proxy", f"http://ada:p%40ss@{address}")
    assert connect("http://queue.test/below").call("path", {"größe": 1}) == {"größe": 1}
    who = "Basic " + base64.b64encode(b"ada:p@ss").decode()
    assert listener.asked == [("http://queue.test/below/v22_1/path", who)]
    monkeypatch.setenv("http_proxy", address)
    assert connect("http://queue.test").call("path", "x") == "x"
    assert listener.asked[1] == ("http://queue.test/v22_1/path", None)


def test_the_variable_no_proxy_is_respected(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("all_proxy", "http://127.0.0.1:1")
    with pytest.raises(ServiceError, match=r"did not answer \(\[Errno 111\] Connection refused\)"):
        connect(listener.url).call("path", "x")
    monkeypatch.setenv("no_proxy", "example.org,127.0.0.1")
    assert connect(listener.url).call("path", "x") == "x"
    assert listener.asked == [("/v22_1/path", None)]


@pytest.mark.parametrize("proxy", ["socks5://a:p-word@127.0.0.1:1080", "http://a:p-word@[::1"])
def test_a_proxy_that_cannot_be_used_is_an_error(
    listener: Listener, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setenv("http_proxy", proxy)
    with pytest.raises(ServiceError, match="http_proxy and all_proxy") as raised:
        connect("http://queue.test")
    assert "p-word" not in str(raised.value)


def test_a_connection_is_reused_for_the_next_call(listener: Listener) -> None:
    connection = connect(listener.url)
    for _ in range(3):
        connection.call("path", "x")
    assert listener.connections == 1
    connection.close()
    assert listener.closed.acquire(timeout=10)


def test_a_connection_that_the_service_closed_is_not_reused(listener: Listener) -> None:
    # Otherwise a call without retries would fail, as if the service had died during the call.
    listener.closes = True
    connection = connect(listener.url)
    for _ in range(3):
        assert connection.call("path", "x", unclear="Look.") == "x"
        assert listener.closed.acquire(timeout=10)
    assert listener.connections == 3


def test_only_a_certificate_of_a_known_authority_is_trusted(
    listener: Listener, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tls = TlsFolder(tmp_path / "tls")
    tls.renew("global", (), days=1)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls.server, tls.server_key)
    listener.socket = context.wrap_socket(listener.socket, server_side=True)
    url = listener.url.replace("http:", "https:")
    with pytest.raises(ServiceError, match=r"is not trusted: .*name its file in SSL_CERT_FILE"):
        connect(url).call("path", "x")
    monkeypatch.setenv("SSL_CERT_FILE", str(tls.ca))
    assert connect(url).call("path", "x") == "x"
