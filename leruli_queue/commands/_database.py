"""A connection to the database for a command that does one thing and ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from leruli_queue.settings import load_settings
from leruli_queue.store.migrate import migrate
from leruli_queue.store.pool import Connection, connect

_T = TypeVar("_T")


def with_database(work: Callable[[Connection], Awaitable[_T]]) -> _T:
    """Do the work with a connection to a database whose schema is current.

    Raises
    ------
    SetupError
        When the settings are wrong or the database refuses us.
    """

    async def run() -> _T:
        connection = await connect(load_settings())
        try:
            await migrate(connection)
            return await work(connection)
        finally:
            await connection.close()

    return asyncio.run(run())
