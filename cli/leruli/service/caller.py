"""What all clients of the service share: a connection, and the secret of their calls."""

from __future__ import annotations

from typing import TypeVar

from leruli.service.connection import Connection, Notice
from leruli.settings import ServiceSettings

_Self = TypeVar("_Self", bound="Caller")


class Caller:
    """Base of the clients; safe for several threads. As a context manager it closes."""

    def __init__(self, settings: ServiceSettings, notice: Notice = lambda _: None) -> None:
        """Connect on the first call; `notice` takes a sentence each time a call has to wait."""
        self._connection = Connection(settings, notice)
        self._secret = settings.secret

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
