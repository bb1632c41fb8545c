"""The real object store behind an address at which one object is slow."""

from __future__ import annotations

import contextlib
import socket
import threading
from urllib.parse import urlsplit

from passing_listener import PassingListener

# Bytes of an answer that come at once: its head and the beginning of the object.
_AT_ONCE = 20_000


class SlowStore(PassingListener):
    """Passes connections on. A GET of an object whose name contains `word` stops in the middle."""

    def __init__(self, url: str, word: str) -> None:
        self._store = urlsplit(url).hostname, urlsplit(url).port
        self._word = word.encode()
        self._go_on = threading.Event()
        # Answers that are stopped.
        self.held = 0
        super().__init__(socket.socket(), ("127.0.0.1", 0))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def release(self) -> None:
        """Let all answers go on."""
        self._go_on.set()

    def serve(self, client: socket.socket) -> None:
        slow = threading.Event()
        with client, socket.socket() as store, contextlib.suppress(OSError):
            store.connect(self._store)
            back = threading.Thread(target=self._answer, args=(store, client, slow), daemon=True)
            back.start()
            with contextlib.suppress(OSError):
                while data := client.recv(65536):
                    if data.startswith(b"GET ") and self._word in data.split(b"\r\n", 1)[0]:
                        slow.set()
                    store.sendall(data)
            with contextlib.suppress(OSError):
                store.shutdown(socket.SHUT_WR)
            back.join()

    def _answer(self, store: socket.socket, client: socket.socket, slow: threading.Event) -> None:
        sent = 0
        with contextlib.suppress(OSError):
            while data := store.recv(10_000):
                if slow.is_set() and sent > _AT_ONCE and not self._go_on.is_set():
                    self.held += 1
                    self._go_on.wait()
                client.sendall(data)
                if slow.is_set():
                    sent += len(data)
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_WR)
