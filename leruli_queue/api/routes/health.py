"""Whether the process is alive, and whether it can do its work."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from leruli_queue.api.context import ContextDep
from leruli_queue.store.migrate import is_current
from leruli_queue.store.pool import DATABASE_AWAY

router = APIRouter(tags=["health"])

_DATABASE_PATIENCE_S = 5.0


@router.get("/livez")
async def livez() -> dict[str, str]:
    """Answer as long as the process runs its event loop; a failure means: restart it."""
    return {"status": "alive"}


@router.get("/readyz", responses={503: {"description": "Not ready: the database is away."}})
async def readyz(context: ContextDep) -> JSONResponse:
    """Answer 200 while requests can be served; otherwise a balancer should use another copy."""
    try:
        async with (
            asyncio.timeout(_DATABASE_PATIENCE_S),
            context.pool.acquire() as connection,
        ):
            current = await is_current(connection)
    except DATABASE_AWAY:
        return JSONResponse({"status": "the database is away"}, status_code=503)
    if not current:
        return JSONResponse({"status": "the schema is not migrated"}, status_code=503)
    return JSONResponse({"status": "ready"})
