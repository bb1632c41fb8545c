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
from leruli_queue.embedded.processes import Part
from leruli_queue.embedded.programs import find_programs
from leruli_queue.embedded.state import StackState

# In PL/pgSQL, which checks for signals only between its statements.
_LONG = "DO $$ BEGIN PERFORM count(*) FROM generate_series(1, 2000000000); END $$"


@pytest.fixture
def state() -> StackState:
    return StackState(postgres_password="password")


@pytest.fixture
def server(folders: Folders, state: StackState) -> Iterator[Part]:
    programs = find_programs(node=False)
    postgres.make_cluster(folders, state, programs)
    part = postgres.postgres_part(folders, programs)
    part.start()
    wait_for(part, folders, state)
    yield part
    part.stop()
    postgres.end_orphans(folders)


def wait_for(part: Part, folders: Folders, state: StackState) -> None:
    url = postgres.database_url(folders, state)
    part.wait_until(lambda: postgres.answers(url), seconds=30)


async def begin_long_statement(url: str) -> None:
    """Start a long statement and return while it runs."""
    connection = await asyncpg.connect(url)
    with suppress(TimeoutError):
        await asyncio.wait_for(asyncio.shield(connection.execute(_LONG)), 1)
    # Not closed: closing would cancel the statement.


def test_a_killed_server_starts_again_while_its_statement_still_runs(
    server: Part, folders: Folders, state: StackState
) -> None:
    loop = asyncio.new_event_loop()
    loop.run_until_complete(begin_long_statement(postgres.database_url(folders, state)))
    assert server.process is not None
    os.kill(server.process.pid, signal.SIGKILL)
    server.process.wait()
    # Idle processes have noticed by then.
    time.sleep(1)
    assert postgres._processes_of(folders.postgres)
    server.start()
    wait_for(server, folders, state)
    loop.close()
