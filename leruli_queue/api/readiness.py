"""Readiness: whether the service can work. It answers within 2 s, also if PostgreSQL hangs."""

from __future__ import annotations

import asyncio

from leruli_queue.errors import SetupError
from leruli_queue.settings import Settings
from leruli_queue.store.migrate import is_current
from leruli_queue.store.pool import DATABASE_AWAY, Connection, connect
from leruli_queue.store.queries import queries

# Load balancers commonly wait 2 s for the answer.
_ANSWER_TIMEOUT_S = 1.0
# A longer check is cancelled, and its connection closed.
_CHECK_TIMEOUT_S = 5.0


class Readiness:
    """Checks the database on a connection of its own.

    All connections of the pool may be in use. A busy copy of the service must not look unready, or
    the load balancer would send all requests to the other copies.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._connection: Connection | None = None
        self._check: asyncio.Task[str | None] | None = None

    async def trouble(self) -> str | None:
        """Return the fault that keeps the service from working, in a few words, or None.

        Concurrent callers share one check.
        """
        if self._check is None or self._check.done():
            self._check = asyncio.create_task(self._check_database())
        await asyncio.wait({self._check}, timeout=_ANSWER_TIMEOUT_S)
        return self._check.result() if self._check.done() else "the database does not answer"

    async def close(self) -> None:
        """Cancel the running check and close the connection."""
        if self._check is not None:
            self._check.cancel()
            await asyncio.wait({self._check})
        self._disconnect()

    async def _check_database(self) -> str | None:
        try:
            async with asyncio.timeout(_CHECK_TIMEOUT_S):
                if self._connection is None or self._connection.is_closed():
                    self._connection = await connect(self._settings)
                current = await is_current(self._connection)
                takes_changes = await queries.takes_changes(self._connection)
        except (*DATABASE_AWAY, SetupError):
            self._disconnect()
            return "the database is away"
        except BaseException:
            self._disconnect()
            raise
        if not current:
            return "the schema is not migrated"
        return None if takes_changes else "the database takes no changes"

    def _disconnect(self) -> None:
        if self._connection is not None:
            # Not close(): on a hanging connection it would wait for an answer.
            self._connection.terminate()
            self._connection = None
