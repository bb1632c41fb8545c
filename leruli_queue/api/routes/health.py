"""Whether the process is alive, whether it can do its work, and what it has done."""

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

_DISPATCHERS_S = 1.0


# The route of GET is the first one made: a refusal of another method names it.
@router.head(f"/{Call.LIVEZ}", include_in_schema=False)
@router.get(f"/{Call.LIVEZ}")
async def livez() -> Health:
    """Answer as long as the process runs its event loop; a failure means: restart it."""
    return Health(status="alive")


@router.head(f"/{Call.READYZ}", include_in_schema=False, response_model=Health)
@router.get(
    f"/{Call.READYZ}",
    response_model=Health,
    responses={503: {"model": Health, "description": "Not ready: the status says why."}},
)
async def readyz(request: Request) -> Health | JSONResponse:
    """Answer 200 while requests can be served; otherwise a balancer should use another copy.

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
    """Answer the metrics of this process in Prometheus's text format; no group is named in them."""
    heard = None
    with suppress(*DATABASE_AWAY):
        async with asyncio.timeout(_DISPATCHERS_S):
            heard = await queries.dispatchers_heard(context.pool)
    silence_s = heard and heard["silence_s"]
    context.metrics.note_dispatchers(silence_s, heard and (heard["nomad_away_s"] or 0.0))
    return Response(context.metrics.text(), media_type=METRICS_TYPE)
