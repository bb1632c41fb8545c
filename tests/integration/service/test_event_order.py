"""No event is skipped and none comes twice, whatever order transactions commit in."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import event_reader
import pytest
from service_world import GroupOfTest, make_jobs, make_user

from leruli_queue.settings import PREFIX, Settings
from leruli_queue.store.pool import Pool, open_pool

WRITERS = 16
EVENTS = 100_000
# Each transaction takes 0 to 2 s.
LONGEST_S = 2.0
KILLS = 4
PAGE = event_reader.PAGE
STATEMENTS, JOBS_EACH = 10, 40


def _start_reader(settings: Settings, file: Path, user_id: int) -> subprocess.Popen[bytes]:
    url = settings.database_url.get_secret_value()
    environment = os.environ | {
        f"{PREFIX}DATABASE_URL": url,
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    arguments = [sys.executable, str(event_reader.__file__), str(file), str(user_id)]
    return subprocess.Popen(arguments, env=environment)


async def _write(
    pool: Pool, jobs: list[object], chance: random.Random, is_enough: asyncio.Event
) -> None:
    """Change jobs in transactions that are open for a while, until there are enough events."""
    states = ["submitted", "received"]
    turn = 0
    while not is_enough.is_set():
        async with pool.acquire() as connection, connection.transaction():
            takes_s = chance.uniform(0, LONGEST_S)
            for number in range(STATEMENTS):
                part = jobs[number * JOBS_EACH : (number + 1) * JOBS_EACH]
                await connection.execute(
                    "UPDATE jobs SET state = $2::text::job_state WHERE id = ANY($1::uuid[])",
                    part,
                    states[turn % 2],
                )
                await asyncio.sleep(takes_s / STATEMENTS)
        turn += 1


@pytest.mark.timeout(900)
async def test_no_event_is_skipped_and_none_comes_twice(
    settings: Settings, pool: Pool, group: GroupOfTest, tmp_path: Path
) -> None:
    seed = random.randrange(2**32)  # noqa: S311
    print(f"seed {seed}")
    chance = random.Random(seed)  # noqa: S311
    user = await make_user(pool, group)
    each = STATEMENTS * JOBS_EACH
    jobs: list[list[object]] = [list(await make_jobs(pool, group, each)) for _ in range(WRITERS)]
    file = tmp_path / "pages"
    reader = _start_reader(settings, file, user.id)
    killed = 0
    try:
        await _until(lambda: bool(_pages(file)))
        is_enough = asyncio.Event()
        enough = settings.model_copy(update={"database_pool_size": WRITERS})
        async with open_pool(enough) as writing:
            writers = [
                asyncio.create_task(_write(writing, part, chance, is_enough)) for part in jobs
            ]
            while not is_enough.is_set():
                before = len(_pages(file))
                await asyncio.sleep(chance.uniform(1, 4))
                # On a busy machine it takes long to begin. Then it has to catch up with the
                # writers: only there it can skip something.
                await _until(lambda n=before: _is_among_writers(file, n))  # type: ignore[misc]
                reader.send_signal(signal.SIGKILL)
                reader.wait()
                killed += 1
                reader = _start_reader(settings, file, user.id)
                made = await pool.fetchval("SELECT count(*) FROM events")
                if killed >= KILLS and made >= EVENTS:
                    is_enough.set()
            await asyncio.gather(*writers)
        written = {row["id"] for row in await pool.fetch("SELECT id FROM events")}
        # It has read up to the end when its cursor moves on without events.
        before = len(_pages(file))
        await _until(lambda: any(not page["events"] for page in _pages(file)[before:]))
    finally:
        reader.kill()
        reader.wait()
    read = _read(file)
    print(f"{len(written)} events, the reader was killed {killed} times")
    assert len(written) >= EVENTS
    assert len(read) == len(set(read)), "some came twice"
    assert set(read) == written, f"{len(written - set(read))} were skipped"


async def _until(is_so: Callable[[], bool]) -> None:
    for _ in range(600):
        if is_so():
            return
        await asyncio.sleep(0.1)
    raise AssertionError("the reader does not go on")


def _is_among_writers(file: Path, begun: int) -> bool:
    """Tell whether the reader has read to the end of the feed several times since a page."""
    return sum(len(page["events"]) < PAGE for page in _pages(file)[begun:]) >= 10


def _pages(file: Path) -> list[dict[str, Any]]:
    return event_reader.whole_lines(file) if file.exists() else []


def _read(file: Path) -> list[int]:
    return [number for page in _pages(file) for number in page["events"]]
