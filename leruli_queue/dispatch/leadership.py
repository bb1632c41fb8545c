"""One dispatcher is active for a Nomad cluster; others stand by to take over.

The active dispatcher holds the cluster's advisory lock of PostgreSQL on its own connection.
PostgreSQL frees the lock with the connection, so a dispatcher that dies is replaced as soon as its
connection is gone. Jobs are claimed on this same connection. So a dispatcher that lost it without
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
    """The database is read-only, so no dispatcher can be active there."""


class Leadership:
    """The role of active dispatcher of a cluster, which lasts as long as its connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._in_use = asyncio.Lock()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Lend the connection that holds the lock.

        A statement on it succeeds only while this process is the active dispatcher.

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
        """Check the connection every second; never return.

        Raises
        ------
        LeadershipLostError
            As soon as the connection is found broken.
        NoChangesTakenError
            As soon as the database is read-only. After a failover the address may lead to a copy.
        """
        while True:
            await asyncio.sleep(_TRY_AGAIN_S)
            async with self.connection() as connection:
                await _refuse_if_read_only(connection)


@asynccontextmanager
async def lead(settings: Settings, cluster: str = DEFAULT) -> AsyncIterator[Leadership]:
    """Wait to become the active dispatcher of a cluster, and be it within the block.

    Raises
    ------
    NoChangesTakenError
        When the database is read-only.
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
        # The lock of a leader whose machine froze or vanished would outlive the leader by hours. A
        # live leader sends a statement every second, so PostgreSQL may end an idle session.
        await queries.end_when_idle(connection, seconds=str(_IDLE_S))
        log.info("this dispatcher is active", cluster=cluster)
        yield Leadership(connection)
    finally:
        # Not close(): on a hung connection it would wait for an answer.
        connection.terminate()


async def _refuse_if_read_only(connection: Connection) -> None:
    if not await queries.takes_changes(connection):
        raise NoChangesTakenError
