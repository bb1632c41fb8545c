"""Whether the service can do its work, told within two seconds whatever PostgreSQL does."""

from __future__ import annotations

import asyncio

from leruli_queue.errors import SetupError
from leruli_queue.settings import Settings
from leruli_queue.store.migrate import is_current
from leruli_queue.store.pool import DATABASE_AWAY, Connection, connect
from leruli_queue.store.queries import queries

# Balancers commonly wait two seconds for the answer.
_ANSWER_S = 1.0
# A check that takes longer is ended, with its connection.
_CHECK_S = 5.0


class Readiness:
    """Looks at the database, on a connection of its own.

    The pool's connections may all be in use: a copy that is busy must not be taken for one that
    cannot work, or its balancer would send all requests to the others.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._connection: Connection | None = None
        self._check: asyncio.Task[str | None] | None = None

    async def trouble(self) -> str | None:
        """Return what keeps the service from its work, in a few words; None when nothing does.

        However many ask, one check is under way.
        """
        if self._check is None or self._check.done():
            self._check = asyncio.create_task(self._look())
        await asyncio.wait({self._check}, timeout=_ANSWER_S)
        return self._check.result() if self._check.done() else "the database does not answer"

    async def close(self) -> None:
        """End the check that is under way, and the connection."""
        if self._check is not None:
            self._check.cancel()
            await asyncio.wait({self._check})
        self._disconnect()

    async def _look(self) -> str | None:
        try:
            async with asyncio.timeout(_CHECK_S):
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
            # Not close(): on a connection that hangs it would wait for an answer.
            self._connection.terminate()
            self._connection = None
