"""Health calls: whether the process is alive, whether it can work, and its metrics."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse

from leruli_queue.access.roles import Call
from leruli_queue.api.context import ContextDep
from leruli_queue.api.metrics import METRICS_TYPE
from leruli_queue.api.schemas.common import Health
from leruli_queue.store.pool import DATABASE_AWAY
from leruli_queue.store.queries import queries

router = APIRouter(tags=["health"])

_DISPATCHERS_TIMEOUT_S = 1.0


# The decorator of GET runs first, so that a 405 names GET as the allowed method.
@router.head(f"/{Call.LIVEZ}", include_in_schema=False)
@router.get(f"/{Call.LIVEZ}")
async def livez() -> Health:
    """Answer while the process runs its event loop. No answer means: restart it."""
    return Health(status="alive")


@router.head(f"/{Call.READYZ}", include_in_schema=False, response_model=Health)
@router.get(
    f"/{Call.READYZ}",
    response_model=Health,
    responses={503: {"model": Health, "description": "Not ready: the status says why."}},
)
async def readyz(request: Request) -> Health | JSONResponse:
    """Answer 200 while the service can work. Otherwise a load balancer should use another copy.

    It answers within two seconds.
    """
    state = request.app.state
    trouble = await state.readiness.trouble()
    if not state.opened.is_set():
        trouble = f"starting: {trouble or 'a moment'}"
    if trouble:
        return JSONResponse({"status": trouble}, status_code=503)
    return Health(status="ready")


@router.get(f"/{Call.METRICS}", response_class=PlainTextResponse)
async def metrics(context: ContextDep) -> Response:
    """Answer the metrics of this process in Prometheus's text format. They name no group."""
    heard = None
    with suppress(*DATABASE_AWAY):
        async with asyncio.timeout(_DISPATCHERS_TIMEOUT_S):
            heard = await queries.dispatchers_heard(context.pool)
    silence_s = heard and heard["silence_s"]
    context.metrics.note_dispatchers(silence_s, heard and (heard["nomad_away_s"] or 0.0))
    return Response(context.metrics.text(), media_type=METRICS_TYPE)
