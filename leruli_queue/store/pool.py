"""Connections to PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import TypeAlias

import asyncpg
import structlog
from asyncpg.pool import PoolConnectionProxy

from leruli_queue.errors import SetupError
from leruli_queue.settings import Settings

log = structlog.get_logger(__name__)

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
Lend: TypeAlias = Callable[[], AbstractAsyncContextManager[Connection]]
"""Lends a connection for a block, to work that must hold none while it waits for others."""

# asyncpg's errors for a database that is lost, unreachable or unable to work. Work goes on once it
# is back. They mean nothing else: when we end a statement ourselves, at its timeout or because the
# caller has gone, asyncpg raises TimeoutError or CancelledError and not an error of PostgreSQL.
DATABASE_AWAY = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    # A connection broke while it was returned to the pool.
    asyncpg.InternalClientError,
    # The server shuts down or starts, or an operator or a time limit of the server ended a
    # statement or a session.
    asyncpg.exceptions.OperatorInterventionError,
    asyncpg.exceptions.IdleInTransactionSessionTimeoutError,
    asyncpg.exceptions.TransactionTimeoutError,
    asyncpg.exceptions.LockNotAvailableError,
    # Disk, memory or connections are used up, or the disk fails.
    asyncpg.exceptions.InsufficientResourcesError,
    asyncpg.exceptions.PostgresSystemError,
    # After a failover to a copy that is still read-only, or a provider's disk is full.
    asyncpg.exceptions.ReadOnlySQLTransactionError,
    # Rolled back for a deadlock. A migration beside running copies can cause one.
    asyncpg.exceptions.TransactionRollbackError,
    TimeoutError,
)

_CLOSE_S = 3.0

# Set explicitly, because the server may have other defaults.
_SESSION = {
    # Each statement sees all earlier commits. So a request that waited for a revocation is refused.
    "default_transaction_isolation": "read committed",
    # Frequently used pages are in memory, and disks are SSDs. With its default of 4 PostgreSQL
    # reads a whole table to find some hundred rows (tests/…/test_plans.py).
    "random_page_cost": "1.1",
}


async def connect(settings: Settings) -> Connection:
    """Open one connection outside of any pool.

    Raises
    ------
    SetupError
        When the database refuses the connection for a reason that does not pass by itself.
    """
    with _map_connection_errors():
        return await asyncpg.connect(
            settings.database_url.get_secret_value(),
            timeout=settings.database_timeout_s,
            command_timeout=settings.database_timeout_s,
            server_settings=_SESSION,
        )


async def wait_for_database(settings: Settings) -> None:
    """Return once the database takes connections, for processes that start before the database.

    Raises
    ------
    SetupError
        When the database refuses the connection for a reason that does not pass by itself.
    """

    async def knock() -> None:
        await (await connect(settings)).close()

    await once_database_works(knock)


async def once_database_works(work: Callable[[], Awaitable[object]]) -> None:
    """Call `work`; call it again while it fails because the database is away."""
    pause_s = 0.5
    while True:
        try:
            await work()
        except DATABASE_AWAY as error:
            log.warning("waiting for the database", why=f"{type(error).__name__}: {error}")
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, 5.0)
        else:
            return


@asynccontextmanager
async def open_pool(settings: Settings) -> AsyncIterator[Pool]:
    """Open the pool of connections that a process shares, and close it at the end.

    Raises
    ------
    SetupError
        When the database refuses the connection for a reason that does not pass by itself.
    """
    with _map_connection_errors():
        pool = await asyncpg.create_pool(
            settings.database_url.get_secret_value(),
            min_size=1,
            max_size=settings.database_pool_size,
            timeout=settings.database_timeout_s,
            command_timeout=settings.database_timeout_s,
            server_settings=_SESSION,
            reset=_leave_as_it_is,
        )
    try:
        yield pool
    finally:
        try:
            async with asyncio.timeout(_CLOSE_S):
                await pool.close()
        except TimeoutError:
            # The database hangs, and closing waits for its answer.
            pool.terminate()


async def _leave_as_it_is(_connection: Connection) -> None:
    """Save the reset statement that asyncpg sends when a connection returns to the pool.

    None of our code changes a session of the pool: no SET, LISTEN or cursor. Only the lock of a
    migration outlives a transaction, and the code that takes it also releases it. asyncpg itself
    ends an open transaction.
    """


@contextmanager
def _map_connection_errors() -> Iterator[None]:
    try:
        yield
    except ValueError:
        why = "this is not a valid address"
    except DATABASE_AWAY:
        raise
    except asyncpg.InvalidAuthorizationSpecificationError:
        why = "it refuses the user or the password"
    except asyncpg.InvalidCatalogNameError:
        why = "it has no database of this name"
    except asyncpg.PostgresError as error:
        why = f"it refuses the connection ({type(error).__name__})"
    else:
        return
    # Leave out the text of the error: it quotes the address, and in a mistyped address the password
    # can be anywhere.
    raise SetupError(
        f"PostgreSQL cannot be used: {why}. Check LERULI_QUEUE_DATABASE_URL."
    ) from None
