"""The start grant is the first upload lease, for agents that ask for it."""

from __future__ import annotations

from datetime import timedelta

import httpx
import pytest
from service_world import GroupOfTest, call, claim_jobs, make_jobs, make_node_with_token

from leruli_queue.settings import Settings
from leruli_queue.store.pool import Pool


@pytest.mark.parametrize("marks", [True, False, None])
async def test_a_start_grant_with_a_lease(
    service: httpx.AsyncClient,
    settings: Settings,
    pool: Pool,
    group: GroupOfTest,
    marks: bool | None,
) -> None:
    _, token = await make_node_with_token(pool, group)
    [job_id] = await make_jobs(pool, group, 1)
    await claim_jobs(pool, group, 1)
    body = {"nodetoken": token, "jobid": str(job_id), "attempt": 1, "startkey": "start-key-1"}
    # An older agent says nothing of it.
    body |= {} if marks is None else {"marks": marks}
    answer = await call(service, "attempt-start", **body)
    assert answer["silenceseconds"] == (settings.node_silence_s if marks else None)
    row = await pool.fetchrow("SELECT upload_at, marks_objects FROM attempts")
    assert (row["upload_at"] is not None) is bool(marks)
    assert row["marks_objects"] is bool(marks)
    assert answer["goeson"]


async def test_a_repeated_start_renews_the_lease(
    service: httpx.AsyncClient, pool: Pool, group: GroupOfTest
) -> None:
    """An agent counts the lease's age from the call that was answered."""
    _, token = await make_node_with_token(pool, group)
    [job_id] = await make_jobs(pool, group, 1)
    await claim_jobs(pool, group, 1)
    body = {"nodetoken": token, "jobid": str(job_id), "attempt": 1, "startkey": "start-key-1"}
    await call(service, "attempt-start", **body, marks=True)
    await pool.execute("UPDATE attempts SET upload_at = upload_at - interval '1 hour'")
    await call(service, "attempt-start", **body, marks=True)
    age = await pool.fetchval("SELECT now() - upload_at FROM attempts")
    assert age < timedelta(minutes=1)
