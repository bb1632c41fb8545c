"""The PostgreSQL of the one-machine stack, by itself."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress

import asyncpg
import pytest

from leruli_queue.embedded import postgres
from leruli_queue.embedded.folders import Folders
from leruli_queue.embedded.kept import Kept
from leruli_queue.embedded.processes import Part
from leruli_queue.embedded.programs import find_programs

# As plpgsql, which looks only between its statements whether anything happened.
_LONG = "DO $$ BEGIN PERFORM count(*) FROM generate_series(1, 2000000000); END $$"


@pytest.fixture
def kept() -> Kept:
    return Kept(postgres_password="password")


@pytest.fixture
def server(folders: Folders, kept: Kept) -> Iterator[Part]:
    programs = find_programs(node=False)
    postgres.make_cluster(folders, kept, programs)
    part = postgres.postgres_part(folders, programs)
    part.start()
    wait_for(part, folders, kept)
    yield part
    part.stop()
    postgres.end_orphans(folders)


def wait_for(part: Part, folders: Folders, kept: Kept) -> None:
    url = postgres.database_url(folders, kept)
    part.wait_until(lambda: postgres.answers(url), seconds=30)


async def begin_long_statement(url: str) -> None:
    """Return while it runs, without waiting for it."""
    connection = await asyncpg.connect(url)
    with suppress(TimeoutError):
        await asyncio.wait_for(asyncio.shield(connection.execute(_LONG)), 1)
    # Not closed: it would be cancelled.


def test_a_killed_server_starts_again_while_a_statement_of_its_still_runs(
    server: Part, folders: Folders, kept: Kept
) -> None:
    loop = asyncio.new_event_loop()
    loop.run_until_complete(begin_long_statement(postgres.database_url(folders, kept)))
    assert server.process is not None
    os.kill(server.process.pid, signal.SIGKILL)
    server.process.wait()
    # Those that were idle have noticed by then.
    time.sleep(1)
    assert postgres._processes_of(folders.postgres)
    server.start()
    wait_for(server, folders, kept)
    loop.close()
