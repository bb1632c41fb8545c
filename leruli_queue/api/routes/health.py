"""Whether the process is alive, whether it can do its work, and what it has done."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse, PlainTextResponse

from leruli_queue.access.roles import Call
from leruli_queue.api.context import ContextDep
from leruli_queue.api.metrics import METRICS_TYPE
from leruli_queue.api.schemas import Health
from leruli_queue.store.migrate import is_current
from leruli_queue.store.pool import DATABASE_AWAY
from leruli_queue.store.queries import queries

router = APIRouter(tags=["health"])

_DATABASE_PATIENCE_S = 5.0


@router.get(f"/{Call.LIVEZ}")
async def livez() -> Health:
    """Answer as long as the process runs its event loop; a failure means: restart it."""
    return Health(status="alive")


@router.get(
    f"/{Call.READYZ}",
    response_model=Health,
    responses={503: {"model": Health, "description": "Not ready: the status says why."}},
)
async def readyz(context: ContextDep) -> Health | JSONResponse:
    """Answer 200 while requests can be served; otherwise a balancer should use another copy."""
    try:
        async with (
            asyncio.timeout(_DATABASE_PATIENCE_S),
            context.pool.acquire() as connection,
        ):
            current = await is_current(connection)
            takes_changes = await queries.takes_changes(connection)
    except DATABASE_AWAY:
        return JSONResponse({"status": "the database is away"}, status_code=503)
    if not current:
        return JSONResponse({"status": "the schema is not migrated"}, status_code=503)
    if not takes_changes:
        return JSONResponse({"status": "the database takes no changes"}, status_code=503)
    return Health(status="ready")


@router.get(f"/{Call.METRICS}", response_class=PlainTextResponse)
async def metrics(context: ContextDep) -> Response:
    """Answer the metrics of this process in Prometheus's text format; no group is named in them."""
    return Response(context.metrics.text(), media_type=METRICS_TYPE)
