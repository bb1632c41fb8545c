"""Start the service in the background: it listens at once, and works when the database does.

Until the database is reached and migrated, `/livez` answers 200, `/readyz` 503, and calls 503 with
Retry-After (:func:`leruli_queue.api.context.context_of`).
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress

import structlog
from fastapi import FastAPI

from leruli_queue.api.context import Context
from leruli_queue.api.readiness import Readiness
from leruli_queue.errors import SetupError
from leruli_queue.settings import Settings
from leruli_queue.store.migrate import migrate_when_possible
from leruli_queue.store.pool import Pool, once_database_works, open_pool

log = structlog.get_logger(__name__)

_SETUP_IS_WRONG = 3
# Wait this long for the database before listening. If it is up, no call is answered with 503.
_OPENS_MOSTLY_WITHIN_S = 0.5

OpenContext = Callable[[Pool], AbstractAsyncContextManager[Context]]
"""Builds the context of the routes."""


@asynccontextmanager
async def opening(
    app: FastAPI, settings: Settings, open_context: OpenContext
) -> AsyncIterator[None]:
    """Open the service in the background, and close it at the end of the block.

    If the set-up is wrong, the process logs a line and ends with exit code 3.
    """
    app.state.opened = opened = asyncio.Event()
    app.state.readiness = Readiness(settings)

    async def be_open() -> None:
        try:
            await once_database_works(serve_context)
        except SetupError as error:
            log.error("the service cannot start", why=str(error))
            _end(_SETUP_IS_WRONG)
        except Exception:
            log.exception("the service cannot start")
            _end(1)

    async def serve_context() -> None:
        async with open_pool(settings) as pool:
            await migrate_when_possible(pool)
            async with open_context(pool) as context:
                app.state.context = context
                opened.set()
                await asyncio.Event().wait()

    work = asyncio.create_task(be_open())
    with suppress(TimeoutError):
        await asyncio.wait_for(opened.wait(), _OPENS_MOSTLY_WITHIN_S)
    try:
        yield
    finally:
        work.cancel()
        await asyncio.wait({work})
        await app.state.readiness.close()


def _end(code: int) -> None:
    """End the process, which has accepted no request yet.

    Not by an exception: uvicorn and the event loop would each print its traceback.
    """
    sys.stderr.flush()
    os._exit(code)
