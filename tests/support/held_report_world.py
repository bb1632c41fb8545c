"""Reports of nodes that wait at the service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import httpx
from service_world import call, running_service, stay_heard

from leruli_queue.settings import Settings
from leruli_queue.store.pool import Pool

# A report that waits in vain is answered after this time.
PERIOD_S = 4.0
# News are told within this time, on a machine that others use too.
SOON_S = 2.0


@asynccontextmanager
async def holding_service(
    settings: Settings, pool: Pool, **changes: Any
) -> AsyncIterator[httpx.AsyncClient]:
    """A service that holds reports for PERIOD_S."""
    await stay_heard(pool)
    changed = settings.model_copy(update={"node_report_s": PERIOD_S, **changes})
    async with running_service(changed) as client:
        yield client


async def report(
    api: httpx.AsyncClient, token: str, *held: UUID, known: str | None = None
) -> dict[str, Any]:
    attempts = [{"jobid": str(job_id), "attempt": 1} for job_id in held]
    answer = await call(api, "node-report", nodetoken=token, attempts=attempts, known=known)
    return dict(answer)


async def waiting(api: httpx.AsyncClient, token: str, *held: UUID) -> asyncio.Task[dict[str, Any]]:
    """A report that waits: the node knows what the service has to say."""
    said = (await report(api, token, *held))["said"]
    # The first answer does not name an attempt that is not reported; the second may.
    task = asyncio.create_task(report(api, token, *held, known=said))
    await asyncio.sleep(0.3)
    assert not task.done()
    return task


async def soon(task: asyncio.Task[dict[str, Any]]) -> dict[str, Any]:
    async with asyncio.timeout(SOON_S):
        return await task
