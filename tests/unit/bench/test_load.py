"""The load generator, against a small server with real sockets."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from bench.load import UnexpectedAnswerError, request, send


@contextmanager
def _server(answer: Callable[[bytes], tuple[int, bytes]]) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status, text = answer(body)
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


def test_answers_come_in_the_order_of_the_requests() -> None:
    at_once: set[int] = set()

    def answer(body: bytes) -> tuple[int, bytes]:
        at_once.add(threading.get_ident())
        return 200, b"<" + body + b">"

    with _server(answer) as port:
        bodies = [str(number).encode() for number in range(50)]
        load = send(port, [request("/x", b) for b in bodies], connections=4, limit_s=20)
    assert [one.body for one in load.answers] == [b"<" + body + b">" for body in bodies]
    # One thread per connection.
    assert len(at_once) == 4
    assert 0 < max(one.seconds for one in load.answers) <= load.seconds


def test_a_refusal_is_no_figure() -> None:
    with (
        _server(lambda _: (503, b"busy")) as port,
        pytest.raises(UnexpectedAnswerError, match="503: b'busy'"),
    ):
        send(port, [request("/x", b"{}")], connections=8, limit_s=20)


def test_a_closed_connection_ends_the_measurement() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=lambda: server.accept()[0].close(), daemon=True).start()
        with pytest.raises(UnexpectedAnswerError, match="closed a connection"):
            send(server.getsockname()[1], [request("/x", b"{}")], connections=1, limit_s=20)


def test_a_missing_answer_ends_the_measurement() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(TimeoutError):
        send(server.getsockname()[1], [request("/x", b"{}")], connections=1, limit_s=0.3)
