"""A database connection for a command that does one thing and ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from leruli_queue.logs import set_up_logs
from leruli_queue.settings import load_settings
from leruli_queue.store.migrate import migrate
from leruli_queue.store.pool import Connection, connect

_T = TypeVar("_T")


def with_database(work: Callable[[Connection], Awaitable[_T]]) -> _T:
    """Migrate the database if needed, and do the work with a connection to it.

    Raises
    ------
    SetupError
        When the settings are wrong or the database refuses the connection.
    """
    settings = load_settings()
    # Migrations log. Standard output is for the result, which may be JSON.
    set_up_logs(settings)

    async def run() -> _T:
        connection = await connect(settings)
        try:
            await migrate(connection)
            return await work(connection)
        finally:
            await connection.close()

    return asyncio.run(run())
