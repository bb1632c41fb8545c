"""A listener in front of a real server. Its subclass decides what it passes on, and when."""

from __future__ import annotations

import socket
import threading
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Any, TypeVar

_Self = TypeVar("_Self", bound="PassingListener")


class PassingListener(ABC):
    """Listens within its block, and serves each connection in a thread of its own."""

    def __init__(self, listener: socket.socket, address: Any) -> None:
        self._listener = listener
        self._address = address

    def __enter__(self: _Self) -> _Self:
        self._listener.bind(self._address)
        self._listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()
        self._listener.close()

    @abstractmethod
    def release(self) -> None:
        """Pass on delayed and new connections."""

    @abstractmethod
    def serve(self, client: socket.socket) -> None:
        """Serve one connection."""

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()
