"""leruli-node check: clocks and odd tokens. tests/nodes/test_run.py has the rest, for real."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from leruli_node.check import check
from leruli_node.errors import EXIT_REFUSED, EXIT_SETTINGS, AgentError
from leruli_node.settings import Settings, read_settings

_EMPTY = (
    b'<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>bucket</Name>'
    b"<IsTruncated>false</IsTruncated></ListBucketResult>"
)


@pytest.fixture
def settings() -> Iterator[Callable[[float], Settings]]:
    """Settings for fakes of service and store, whose clock is so many seconds ahead: no real is."""
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
def test_a_clock_that_is_odd_is_only_told(
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
    with pytest.raises(AgentError) as caught:
        check(settings(ahead))
    assert caught.value.exit_code == EXIT_REFUSED
    # The Date has whole seconds.
    assert said.split(" s ")[1] in str(caught.value)
    assert str(caught.value).startswith("this machine's clock is 3")


def test_what_is_no_group_token(settings: Callable[[float], Settings]) -> None:
    """No store would have a bucket of that name."""
    with pytest.raises(AgentError, match="LERULI_GROUP_TOKEN is not a group token") as caught:
        check(replace(settings(0), group_token="GROUP TOKEN"))
    assert caught.value.exit_code == EXIT_SETTINGS
