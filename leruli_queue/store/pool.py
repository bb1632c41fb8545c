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
"""Lends a connection for a block, for work that also waits for others and keeps none meanwhile."""

# What a database that is lost, out of reach or in no state to do its work looks like from asyncpg;
# work goes on once it is back. Nothing of ours counts on one of them: a statement that we end
# ourselves, at its time-out or because the caller has gone, ends in TimeoutError or CancelledError.
DATABASE_AWAY = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    # What a connection that breaks while it is given back to the pool ends in.
    asyncpg.InternalClientError,
    # It is shut down or starts, or an operator or a time limit of the server's ended a statement or
    # a session.
    asyncpg.exceptions.OperatorInterventionError,
    asyncpg.exceptions.IdleInTransactionSessionTimeoutError,
    asyncpg.exceptions.TransactionTimeoutError,
    asyncpg.exceptions.LockNotAvailableError,
    # Its disk, its memory or its connections are all in use, or the disk fails.
    asyncpg.exceptions.InsufficientResourcesError,
    asyncpg.exceptions.PostgresSystemError,
    # After a failover to a copy that takes no changes yet, or where a provider's disk is full.
    asyncpg.exceptions.ReadOnlySQLTransactionError,
    # Rolled back for a deadlock, as a migration beside running copies can bring.
    asyncpg.exceptions.TransactionRollbackError,
    TimeoutError,
)

_CLOSE_S = 3.0

# Asked for, because whoever runs the server may have chosen another default.
_SESSION = {
    # Each statement sees what was committed before it, so that what waited for a revocation is
    # refused.
    "default_transaction_isolation": "read committed",
    # What is asked often is in memory, and disks do not turn any more. PostgreSQL's own 4 makes it
    # read a whole table where some hundred rows are looked up (tests/…/test_plans.py).
    "random_page_cost": "1.1",
}


async def connect(settings: Settings) -> Connection:
    """Open one connection outside of any pool.

    Raises
    ------
    SetupError
        When the database refuses us for a reason that waiting does not mend.
    """
    with _refusals_explained():
        return await asyncpg.connect(
            settings.database_url.get_secret_value(),
            timeout=settings.database_timeout_s,
            command_timeout=settings.database_timeout_s,
            server_settings=_SESSION,
        )


async def wait_for_database(settings: Settings) -> None:
    """Return once the database takes connections; for processes that start before it does.

    Raises
    ------
    SetupError
        When the database refuses us for a reason that waiting does not mend.
    """

    async def knock() -> None:
        await (await connect(settings)).close()

    await once_database_works(knock)


async def once_database_works(work: Callable[[], Awaitable[object]]) -> None:
    """Do what needs the database, again until it is not the database that fails it."""
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
        When the database refuses us for a reason that waiting does not mend.
    """
    with _refusals_explained():
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
    """Spare a call to the database each time a connection is given back to the pool.

    Nothing of ours changes a session of the pool: no SET, LISTEN or cursor; the one lock that
    outlives a transaction, a migration's, is given back by whoever took it. An open transaction
    asyncpg ends itself.
    """


@contextmanager
def _refusals_explained() -> Iterator[None]:
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
    # Nothing of the error itself: it quotes the address, in which the password may stand anywhere
    # when it is mistyped.
    raise SetupError(
        f"PostgreSQL cannot be used: {why}. Check LERULI_QUEUE_DATABASE_URL."
    ) from None
