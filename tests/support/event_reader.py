"""A reader of events as a process of its own: it is killed, and goes on from its cursor.

    event_reader.py FILE USER_ID

Appends each page to the file as one line, `{"cursor": ..., "events": [number, ...]}`.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any, BinaryIO

from leruli_queue.jobs.events import Cursor, Wanted, begin, read_events
from leruli_queue.settings import Settings
from leruli_queue.store.pool import open_pool

PAGE = 1000


def whole_lines(file: Path) -> list[dict[str, Any]]:
    """Return the pages in the file. A line that a kill cut off was never read."""
    return [json.loads(line) for line in file.read_bytes().split(b"\n")[:-1]]


async def read_for_ever(out: BinaryIO, user_id: int, cursor_text: str | None) -> None:
    """Read pages and append them."""
    async with open_pool(Settings()) as pool:
        cursor = Cursor.parse(cursor_text) if cursor_text else (await begin(pool)).cursor
        while True:
            page = await read_events(pool, [user_id], cursor, Wanted(limit=PAGE))
            cursor = page.cursor
            events = [event.number for event in page.events]
            out.write(json.dumps({"cursor": str(cursor), "events": events}).encode() + b"\n")
            if not page.more:
                await asyncio.sleep(0.02)


def main(file: Path, user_id: int) -> None:
    """Go on where an earlier reader was killed."""
    file.touch()
    pages = whole_lines(file)
    os.truncate(file, file.read_bytes().rfind(b"\n") + 1)
    with file.open("ab", buffering=0) as out:
        asyncio.run(read_for_ever(out, user_id, pages[-1]["cursor"] if pages else None))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
