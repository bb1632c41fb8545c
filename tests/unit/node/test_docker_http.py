"""Docker's HTTP over its socket, with a FAKE dockerd that answers in pieces, or dies."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from leruli_node.container.docker_engine import (
    DockerEngine,
    DockerRefusedError,
    DockerUnavailableError,
)

ANSWER = b'HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n{"Id": "a"}'


@contextmanager
def dockerd(path: Path, *connections: list[bytes | None]) -> Iterator[list[bytes]]:
    """Answer each request of each connection with these bytes, None ends the connection."""
    asked: list[bytes] = []
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def serve() -> None:
        for answers in connections:
            connection, _ = listener.accept()
            with connection:
                for answer in answers:
                    asked.append(connection.recv(65536))
                    if answer is None:
                        break
                    for byte in range(0, len(answer), 7):
                        connection.sendall(answer[byte : byte + 7])
                else:
                    connection.recv(1)

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield asked
    finally:
        listener.close()
        path.unlink()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "docker.sock"


def test_a_connection_is_used_again(path: Path) -> None:
    with dockerd(path, [ANSWER, ANSWER]) as asked:
        engine = DockerEngine(path)
        assert engine.inspect("a") == engine.inspect("b") == {"Id": "a"}
    assert asked[1].startswith(b"GET /containers/b/json HTTP/1.1\r\n")


def test_an_answer_in_chunks(path: Path) -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunked += b'6\r\n{"Id":\r\n5;x=y\r\n "a"}\r\n0\r\n\r\n'
    with dockerd(path, [chunked]):
        assert DockerEngine(path).inspect("a") == {"Id": "a"}


def test_a_dockerd_that_was_restarted_is_asked_again(path: Path) -> None:
    with dockerd(path, [ANSWER, None], [ANSWER]) as asked:
        engine = DockerEngine(path)
        engine.inspect("a")
        assert engine.inspect("b") == {"Id": "a"}
    assert asked[1] == asked[2]


def test_a_dockerd_that_dies_is_away(path: Path) -> None:
    with dockerd(path, [None]), pytest.raises(DockerUnavailableError):
        DockerEngine(path).inspect("a")


def test_without_a_dockerd_it_is_away(path: Path) -> None:
    with pytest.raises(DockerUnavailableError):
        DockerEngine(path).start("a")


def test_a_refusal_is_in_dockers_words(path: Path) -> None:
    text = b'{"message":"no space left"}'
    refusal = b"HTTP/1.1 500 Error\r\nContent-Length: %d\r\n\r\n%b" % (len(text), text)
    with dockerd(path, [refusal]), pytest.raises(DockerRefusedError, match="no space left"):
        DockerEngine(path).start("a")


def test_a_missing_container_is_over(path: Path) -> None:
    missing = b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}"
    with dockerd(path, [missing, missing]):
        engine = DockerEngine(path)
        assert engine.inspect("a") is None
        engine.remove("a")


def test_waiting_goes_on_after_a_while(path: Path) -> None:
    ended = b"HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n"
    gate, listener = threading.Event(), socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    asked = []

    def serve() -> None:
        connection, _ = listener.accept()
        asked.append(connection.recv(65536))
        connection.sendall(ended)
        gate.wait()
        connection.sendall(b'{"StatusCode":0}')

    threading.Thread(target=serve, daemon=True).start()
    engine = DockerEngine(path)
    assert not engine.wait("a", 0.1)
    assert not engine.wait("a", 0.1)
    gate.set()
    assert engine.wait("a", 10.0)
    assert len(asked) == 1
    listener.close()
