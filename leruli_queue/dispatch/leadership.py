"""One dispatcher is active for a Nomad cluster; others wait to take over.

The active one holds the cluster's advisory lock of PostgreSQL on a connection of its own.
PostgreSQL frees the lock with the connection, so a dispatcher that dies is replaced as soon as its
connection is gone. Jobs are claimed on this same connection: a dispatcher that lost it without
noticing can claim nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import structlog

from leruli_queue.nomad.clusters import DEFAULT
from leruli_queue.settings import Settings
from leruli_queue.store.locks import DISPATCHER_LOCK, DISPATCHER_LOCKS
from leruli_queue.store.pool import Connection, connect
from leruli_queue.store.queries import queries

log = structlog.get_logger(__name__)

_TRY_AGAIN_S = 1.0
_IDLE_S = 15


class LeadershipLostError(Exception):
    """The connection that holds the lock is gone; another dispatcher may be active now."""


class NoChangesTakenError(Exception):
    """The database that was reached can only be read: nobody can be active there."""


class Leadership:
    """Being the active dispatcher of a cluster, as long as its connection lives."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._in_use = asyncio.Lock()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Lend the connection that holds the lock; what runs on it runs as the active one.

        Raises
        ------
        LeadershipLostError
            When the connection is gone.
        """
        try:
            async with self._in_use:
                yield self._connection
        except (OSError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError) as error:
            raise LeadershipLostError(str(error)) from error

    async def watch(self) -> None:
        """Return never; look at the connection every second.

        Raises
        ------
        LeadershipLostError
            As soon as it is found broken.
        NoChangesTakenError
            As soon as nothing can be claimed on it. After a failover the address may lead
            elsewhere.
        """
        while True:
            await asyncio.sleep(_TRY_AGAIN_S)
            async with self.connection() as connection:
                await _refuse_if_read_only(connection)


@asynccontextmanager
async def lead(settings: Settings, cluster: str = DEFAULT) -> AsyncIterator[Leadership]:
    """Wait until this process is the active dispatcher of a cluster, and be it inside of the block.

    Raises
    ------
    NoChangesTakenError
        When the database can only be read.
    """
    connection = await connect(settings)
    try:
        waiting = False
        await _refuse_if_read_only(connection)
        while not await queries.try_lead(
            connection, lock=DISPATCHER_LOCK, cluster_locks=DISPATCHER_LOCKS, cluster=cluster
        ):
            if not waiting:
                log.info("standing by: another dispatcher is active", cluster=cluster)
                waiting = True
            await asyncio.sleep(_TRY_AGAIN_S)
        # The lock of a leader whose machine froze or vanished would outlive it by hours; it watches
        # every second, so a session that is idle for longer is nobody's.
        await queries.end_when_idle(connection, seconds=str(_IDLE_S))
        log.info("this dispatcher is active", cluster=cluster)
        yield Leadership(connection)
    finally:
        # Not close(): on a connection that hangs it would wait for an answer.
        connection.terminate()


async def _refuse_if_read_only(connection: Connection) -> None:
    if not await queries.takes_changes(connection):
        raise NoChangesTakenError
