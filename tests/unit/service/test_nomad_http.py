"""The lines of an answer of Nomad's that goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

from leruli_queue.nomad.http import _lines

LONG = b"x" * 500_000


class Content:
    """A FAKE of what is received: where a real connection cuts lines cannot be chosen."""

    async def iter_any(self) -> AsyncIterator[bytes]:
        for chunk in (b"{}\n", b"\n{", b"1}\n{2}\n" + LONG[:-1], b"x", b"\n", b"the rest"):
            yield chunk


async def test_lines_are_whole_however_they_come_and_however_long_they_are() -> None:
    found = [line async for line in _lines(cast(Any, Content()))]
    assert found == [b"{}", b"", b"{1}", b"{2}", LONG]
