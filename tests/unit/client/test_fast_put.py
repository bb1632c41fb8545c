"""Small PUTs without the SDK, against a server with scripted answers on a real socket."""

import contextlib
import socket
import ssl
import threading
from datetime import UTC, datetime
from urllib.parse import urlsplit

import pytest
from minio.credentials import Credentials
from minio.signer import sign_v4_s3

from leruli.settings import StorageSettings
from leruli.storage.fast_put import FastPut
from leruli_queue.nodes.tls_folder import TlsFolder

DONE = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class Server:
    """Answers each request with the next of `answers`; an empty one closes the connection."""

    def __init__(self, *answers, tls=None):
        self.tls = tls
        self.answers = list(answers)
        self.requests = []
        self.connections = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while self.answers:
            with contextlib.suppress(OSError):
                connection, _ = self._socket.accept()
                self.connections += 1
                if self.tls is not None:
                    connection = self.tls.wrap_socket(connection, server_side=True)
                with connection:
                    self._answer(connection)

    def _answer(self, connection):
        while self.answers and (request := connection.recv(65536)):
            self.requests.append(request)
            answer = self.answers.pop(0)
            if not answer:
                return
            connection.sendall(answer)


def fast_put(server, **more):
    settings = StorageSettings(server.host, False, "access", "secret", **more)
    return FastPut(settings, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))


def test_one_connection_serves_many_requests():
    server = Server(DONE, DONE, DONE)
    quick = fast_put(server)
    assert [quick.put("/a"), quick.put("/a/run.tgz", b"content"), quick.put("/b")] == [True] * 3
    assert server.connections == 1
    assert server.requests[1].startswith(b"PUT /a/run.tgz HTTP/1.1\r\n")
    assert server.requests[1].endswith(b"Content-Length: 7\r\n\r\ncontent")
    assert not any(b"secret" in request for request in server.requests)


def test_the_body_of_an_answer_is_not_read_as_the_next_answer():
    server = Server(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nHTTP/", DONE)
    quick = fast_put(server)
    assert quick.put("/a")
    assert quick.put("/b")
    assert server.connections == 1


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_a_connection_that_may_be_unusable_is_not_reused(head):
    server = Server(head, DONE)
    quick = fast_put(server)
    assert quick.put("/a")
    assert quick.put("/b")
    assert server.connections == 2


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-OpenSSH_9.2\r\n\r\n"])
def test_a_broken_answer_fails_and_the_next_put_reconnects(answer):
    server = Server(DONE, answer, DONE)
    quick = fast_put(server)
    assert quick.put("/a")
    assert not quick.put("/b")
    assert quick.put("/c")
    assert server.connections == 2


@pytest.mark.parametrize(
    ("status", "goes_on"), [(403, False), (301, False), (409, True), (503, True)]
)
def test_fast_put_stops_after_a_permanent_refusal(status, goes_on):
    refusal = f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n".encode()
    server = Server(refusal, DONE)
    quick = fast_put(server)
    assert not quick.put("/a")
    assert quick.put("/b") is goes_on
    assert len(server.requests) == (2 if goes_on else 1)


@pytest.mark.parametrize("status", [404, 403, 301])
def test_a_storage_that_makes_no_buckets_is_asked_once(status):
    refusal = f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n".encode()
    server = Server(DONE, refusal, DONE)
    quick = fast_put(server)
    assert quick.put("/a/run.tgz", b"content", make_bucket=True)
    assert not quick.put("/b/run.tgz", b"content", make_bucket=True)
    assert not quick.put("/b/run.tgz", b"content", make_bucket=True)
    assert quick.put("/b")
    asking = [b"\r\nX-Leruli-Make-Bucket: 1\r\n" in request for request in server.requests]
    assert asking == [True, True, False]


def test_a_busy_storage_may_make_the_next_bucket():
    server = Server(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", DONE)
    quick = fast_put(server)
    assert not quick.put("/a/run.tgz", b"content", make_bucket=True)
    assert quick.put("/b/run.tgz", b"content", make_bucket=True)


def test_over_tls_with_a_certificate_that_is_trusted(tmp_path):
    certificates = TlsFolder(tmp_path)
    certificates.renew("global", ("127.0.0.1",), days=1)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificates.server, certificates.server_key)
    server = Server(DONE, DONE, tls=tls)
    settings = StorageSettings(server.host, True, "access", "secret")

    assert not FastPut(settings, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)).put("/a", b"content")
    assert server.requests == []

    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.load_verify_locations(certificates.ca)
    quick = FastPut(settings, trusting)
    assert quick.put("/a", b"content")
    assert quick.put("/b", b"more")
    assert server.connections == 2


def test_a_server_that_is_away():
    server = Server()
    server._socket.close()
    assert not fast_put(server).put("/a")


def test_the_signature_is_that_of_the_sdk():
    server = Server(DONE)
    assert fast_put(server, region="eu-1").put("/a/run.tgz", b"content")
    lines = server.requests[0].decode().split("\r\n")
    head = dict(line.split(": ", 1) for line in lines[1:-2])
    date_text = head["X-Amz-Date"]
    date = datetime.strptime(date_text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    digest = head["X-Amz-Content-Sha256"]
    signed = sign_v4_s3(
        method="PUT",
        url=urlsplit(f"http://{server.host}/a/run.tgz"),
        region="eu-1",
        headers={"Host": server.host, "x-amz-content-sha256": digest, "x-amz-date": date_text},
        credentials=Credentials("access", "secret"),
        content_sha256=digest,
        date=date,
    )
    assert head["Authorization"] == signed["Authorization"]
