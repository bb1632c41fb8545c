"""leruli-node check: clocks and invalid tokens.

tests/nodes/test_run.py tests the rest with real parts.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from leruli_node.check import check
from leruli_node.errors import EXIT_SETTINGS, EXIT_UNREACHABLE, AgentError
from leruli_node.settings import Settings, read_settings

_EMPTY = (
    b'<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>bucket</Name>'
    b"<IsTruncated>false</IsTruncated></ListBucketResult>"
)


@pytest.fixture
def settings() -> Iterator[Callable[[float], Settings]]:
    """Return settings for FAKES of service and store with a clock so many seconds ahead."""
    servers = []

    def make(ahead: float) -> Settings:
        class Fake(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self._answer(422, b"{}")

            def do_GET(self) -> None:
                self._answer(200, _EMPTY)

            def date_time_string(self, timestamp: float | None = None) -> str:
                return formatdate(time.time() + ahead, usegmt=True)

            def _answer(self, code: int, body: bytes) -> None:
                self.send_response(code)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Fake)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        names = ("LERULI_GROUP_TOKEN", "LERULI_COMPUTE_SECRET", "LERULI_S3_ACCESS")
        secrets = dict.fromkeys((*names, "LERULI_S3_SECRET"), "made-up")
        return read_settings({"LERULI_BASEURL": address, "LERULI_S3_SERVER": address, **secrets})

    yield make
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(("ahead", "said"), [(0, ""), (-120, "; this machine's clock is +1")])
def test_a_small_clock_error_is_only_reported(
    settings: Callable[[float], Settings], ahead: float, said: str
) -> None:
    made = settings(ahead)
    service, store = check(made)
    assert service.startswith(f"the service answers at {made.base_url}{said}")
    assert service.endswith("off") == bool(said)
    assert store.endswith("takes the key")


@pytest.mark.parametrize(("ahead", "said"), [(3600, "3600 s behind"), (-3600, "3600 s ahead of")])
def test_a_clock_that_the_store_would_refuse(
    settings: Callable[[float], Settings], ahead: float, said: str
) -> None:
    """M2: after a power cut the clock is wrong for a while; the node must try again."""
    with pytest.raises(AgentError) as caught:
        check(settings(ahead))
    assert caught.value.exit_code == EXIT_UNREACHABLE  # NTP may set it; run.sh retries
    # The Date has whole seconds.
    assert said.split(" s ")[1] in str(caught.value)
    assert str(caught.value).startswith("this machine's clock is 3")


def test_a_certificate_that_is_not_trusted(
    settings: Callable[[float], Settings], tmp_path: Path
) -> None:
    """D15: an organisation's own authority, which this machine does not know."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(_self_signed(tmp_path))
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"https://127.0.0.1:{server.server_port}"
    with pytest.raises(AgentError) as caught:
        check(replace(settings(0), base_url=address))
    server.shutdown()
    server.server_close()
    assert str(caught.value) == (
        f"the certificate of {address} is not trusted: self-signed certificate. If your "
        "organisation has a certificate authority of its own, name its file in SSL_CERT_FILE."
    )
    assert caught.value.exit_code == EXIT_UNREACHABLE


def _self_signed(folder: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .sign(key, hashes.SHA256())
    )
    path = folder / "server.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


def test_an_invalid_group_token(settings: Callable[[float], Settings]) -> None:
    """No store can have a bucket of that name."""
    with pytest.raises(AgentError, match="LERULI_GROUP_TOKEN is not a group token") as caught:
        check(replace(settings(0), group_token="GROUP TOKEN"))
    assert caught.value.exit_code == EXIT_SETTINGS
