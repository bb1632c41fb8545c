"""The reasons that are reported for an event stream that ends at once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from leruli_queue.nomad import events as module
from leruli_queue.nomad.errors import NomadAwayError, NomadForbiddenError
from leruli_queue.nomad.events import stream_events

NO_CLUSTER = cast(Any, None)


class Http:
    """A FAKE of Nomad: a real one only sometimes ends a refused stream at once."""

    refusal: Exception | None = None

    def __init__(self, _cluster: object) -> None:
        pass

    @asynccontextmanager
    async def lines(self, *_: object, **__: object) -> AsyncIterator[AsyncIterator[bytes]]:
        async def nothing() -> AsyncIterator[bytes]:
            return
            yield b""

        yield nothing()

    async def check_access(self) -> None:
        if self.refusal is not None:
            raise self.refusal

    async def close(self) -> None:
        pass


@pytest.fixture(autouse=True)
def nomad(monkeypatch: pytest.MonkeyPatch) -> type[Http]:
    monkeypatch.setattr(module, "NomadHttp", Http)
    monkeypatch.setattr(Http, "refusal", None)
    return Http


async def test_a_stream_that_ends_at_once_is_reported_with_the_true_reason(
    nomad: type[Http],
) -> None:
    """D3: an unknown token was reported as a stream that ended."""
    nomad.refusal = NomadForbiddenError("Nomad does not know the token")
    with pytest.raises(NomadForbiddenError, match="does not know the token"):
        await anext(stream_events(NO_CLUSTER))


async def test_a_stream_that_ends_at_once_without_a_refusal_is_reported_as_such() -> None:
    with pytest.raises(NomadAwayError, match="ended as it began"):
        await anext(stream_events(NO_CLUSTER))
