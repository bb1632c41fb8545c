"""The lines of a streamed answer of Nomad."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from leruli_queue.nomad import http
from leruli_queue.nomad.http import _lines

LONG = b"x" * 500_000


class Content:
    """A FAKE of the received data: a test cannot choose where a real connection cuts lines."""

    def __init__(self, *chunks: bytes) -> None:
        self._chunks = list(chunks)

    async def readany(self) -> bytes:
        if not self._chunks:
            await asyncio.sleep(3600)
        return self._chunks.pop(0)


async def test_lines_are_whole_however_they_arrive() -> None:
    content = Content(b"{}\n", b"\n{", b"1}\n{2}\n" + LONG[:-1], b"x", b"\n", b"the rest", b"")
    found = [line async for line in _lines(cast(Any, content), 10)]
    assert found == [b"{}", b"", b"{1}", b"{2}", LONG]


async def test_a_line_that_is_too_long_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node can cause a very long event. It must not end the stream or fill the memory."""
    monkeypatch.setattr(http, "MOST_OF_A_LINE", 5)
    content = Content(b"12345\n123", b"456", b"789\n", b"123456\n{}\n", b"12", b"34", b"\n", b"")
    found = [line async for line in _lines(cast(Any, content), 10)]
    assert found == [b"12345", b"{}", b"1234"]


async def test_silence_ends_the_stream() -> None:
    lines = _lines(cast(Any, Content(b"{}\n")), 0.05)
    assert await anext(lines) == b"{}"
    with pytest.raises(TimeoutError):
        await anext(lines)
