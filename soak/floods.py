"""Outsiders, a former member and a lying node that call the service without end."""

from __future__ import annotations

import secrets
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import urlsplit

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from soak.ledger import Ledger

_ABSURD = 2**31 - 1
_SLOW_CLIENTS = 60
_TIMEOUT_S = 10.0


class Floods:
    """Threads, one per kind of call; each makes its next call after the last answer."""

    def __init__(
        self, url: str, ledger: Ledger, *, group_token: str, other_token: str, compute_secret: str
    ) -> None:
        """`group_token` belongs to the honest group, the other secrets to the hostile group."""
        self._url = url
        self._ledger = ledger
        self._group_token = group_token
        self._joining = {"grouptoken": other_token, "computesecret": compute_secret}
        self._stop = threading.Event()
        kinds: list[tuple[Callable[[httpx.Client], None], float]] = [
            (self._guess, 0.02),
            (self._guess, 0.02),
            (self._ask_for_usage, 0.05),
            (self._ask_for_usage, 0.05),
            (self._join, 2.0),
        ]
        self._threads = [
            threading.Thread(target=self._repeat, args=kind, name="flood", daemon=True)
            for kind in kinds
        ]
        self._threads.append(threading.Thread(target=self._be_slow, name="slow", daemon=True))

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _repeat(self, call: Callable[[httpx.Client], None], pause_s: float) -> None:
        with httpx.Client(
            base_url=f"{self._url}/v22_1/", timeout=_TIMEOUT_S, trust_env=False
        ) as client:
            while not self._stop.wait(pause_s):
                with suppress(httpx.HTTPError):
                    call(client)

    def _guess(self, client: httpx.Client) -> None:
        guess = f"lqu-{secrets.token_hex(8)}-{secrets.token_hex(16)}"
        answer = client.post("task-status", json={"secret": guess, "jobid": "x"})
        self._count("wrong secrets", answer)

    def _ask_for_usage(self, client: httpx.Client) -> None:
        body = {"grouptoken": self._group_token, "by": ["user", "code"]}
        self._count("group-usage", client.post("group-usage", json=body))

    def _join(self, client: httpx.Client) -> None:
        machine = {"name": f"liar-{secrets.token_hex(4)}", "cores": _ABSURD, "memorymb": _ABSURD}
        body = self._joining | machine | {"csr": _signing_request()}
        self._count("absurd node-joins", client.post("node-join", json=body))

    def _count(self, what: str, answer: httpx.Response) -> None:
        self._ledger.count(f"hostile: {what} answered with {answer.status_code}")
        if answer.status_code == 500:
            self._ledger.contradict(f"{what} was answered with 500: {answer.text[:200]}")

    def _be_slow(self) -> None:
        """Hold connections open by sending a request a byte at a time."""
        parts = urlsplit(self._url)
        address = (str(parts.hostname), int(parts.port or 80))
        head = b"POST /v22_1/task-submit HTTP/1.1\r\nHost: x\r\nContent-Length: 4000000\r\n\r\n{"
        held: list[socket.socket] = []
        while not self._stop.wait(0.5):
            for one in list(held):
                try:
                    one.send(b" ")
                except OSError:
                    held.remove(one)
                    one.close()
                    self._ledger.count("hostile: slow clients disconnected")
            with suppress(OSError):
                while len(held) < _SLOW_CLIENTS:
                    one = socket.create_connection(address, timeout=2)
                    held.append(one)
                    one.send(head)
        for one in held:
            one.close()


def _signing_request() -> str:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    request = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode()
