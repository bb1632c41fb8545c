"""The lines of an answer of Nomad's that goes on."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from leruli_queue.nomad import http
from leruli_queue.nomad.http import _lines

LONG = b"x" * 500_000


class Content:
    """A FAKE of what is received: where a real connection cuts lines cannot be chosen."""

    def __init__(self, *chunks: bytes) -> None:
        self._chunks = list(chunks)

    async def readany(self) -> bytes:
        if not self._chunks:
            await asyncio.sleep(3600)
        return self._chunks.pop(0)


async def test_lines_are_whole_however_they_come_and_however_long_they_are() -> None:
    content = Content(b"{}\n", b"\n{", b"1}\n{2}\n" + LONG[:-1], b"x", b"\n", b"the rest", b"")
    found = [line async for line in _lines(cast(Any, content), 10)]
    assert found == [b"{}", b"", b"{1}", b"{2}", LONG]


async def test_a_line_that_is_too_long_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """A low: a node can make a very long event; it must end nothing, and fill no memory."""
    monkeypatch.setattr(http, "MOST_OF_A_LINE", 5)
    content = Content(b"12345\n123", b"456", b"789\n", b"123456\n{}\n", b"12", b"34", b"\n", b"")
    found = [line async for line in _lines(cast(Any, content), 10)]
    assert found == [b"12345", b"{}", b"1234"]


async def test_silence_ends_it() -> None:
    lines = _lines(cast(Any, Content(b"{}\n")), 0.05)
    assert await anext(lines) == b"{}"
    with pytest.raises(TimeoutError):
        await anext(lines)
