"""Unusual answers of Docker, by a FAKE: a real Docker cannot be made to give them."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from leruli_node.container.docker_engine import DockerEngine


class EmptyAnswers(BaseHTTPRequestHandler):
    """Answers its version, and nothing to all other calls."""

    def do_GET(self) -> None:
        body = b'{"ApiVersion": "1.43"}' if self.path.endswith("/version") else b""
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[DockerEngine]:
    path = tmp_path / "docker.sock"
    with socketserver.ThreadingUnixStreamServer(str(path), EmptyAnswers) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield DockerEngine(path)
        server.shutdown()


def test_a_container_that_ends_during_a_sample_does_not_mean_that_docker_is_away(
    engine: DockerEngine,
) -> None:
    assert engine.usage("0123456789ab") is None
