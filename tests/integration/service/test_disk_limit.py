"""M1: a job's disk limit, from the submission to the node and back."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from service_world import GroupOfTest, call, claim_jobs, make_node_with_token, state_of

from leruli_queue.settings import Settings
from leruli_queue.store.pool import Pool


def body(group: GroupOfTest, **more: Any) -> dict[str, Any]:
    return {
        "secret": group.user_secret,
        "bucketid": str(uuid4()),
        "name": "default",
        "codeversion": "psi4:1.5",
        **more,
    }


@pytest.mark.parametrize("path", ["task-submit", "bulk/task-submit"])
async def test_a_disk_limit_reaches_the_node_and_the_jobs_owner(
    service: httpx.AsyncClient, settings: Settings, group: GroupOfTest, pool: Pool, path: str
) -> None:
    """M1: the job's limit, or the default for a client that does not know the field."""
    bodies = [body(group, diskmb=500), body(group)]
    if path == "task-submit":
        ids = [await call(service, path, **one) for one in bodies]
    else:
        answer = await service.post(f"/v22_1/{path}", json=bodies)
        ids = [one["data"] for one in answer.json()]
    # Submitted again, it is the same job with its first limit.
    assert await call(service, "task-submit", **bodies[0]) == ids[0]
    _, token = await make_node_with_token(pool, group)
    claims = {str(one["job_id"]): one["number"] for one in await claim_jobs(pool, group, 10)}
    limits = []
    for job in ids:
        attempt = {"nodetoken": token, "jobid": job, "attempt": claims[job]}
        answer = await call(service, "attempt-start", **attempt, startkey="start-key-1")
        limits.append(answer["diskmb"])
    assert limits == [500, settings.default_disk_mb]
    listed = await call(service, "task-list", secret=group.user_secret)
    assert {one["jobid"]: one["diskmb"] for one in listed["jobs"]} == {ids[0]: 500, ids[1]: None}

    ended = {"outcome": "out_of_disk", "message": "used more than 500 MB of disk", "exitcode": 143}
    attempt = {"nodetoken": token, "jobid": ids[0], "attempt": claims[ids[0]]}
    await call(service, "attempt-end", **attempt, **ended)
    assert await state_of(pool, UUID(ids[0])) == ("failed", "used more than 500 MB of disk")


async def test_more_disk_than_the_service_allows_is_refused(
    service: httpx.AsyncClient, settings: Settings, group: GroupOfTest
) -> None:
    asked = settings.max_disk_mb + 1
    answer = await service.post("/v22_1/task-submit", json=body(group, diskmb=asked))
    assert (answer.status_code, answer.json()["detail"]) == (
        422,
        f"Parameter diskmb: {asked} is more than this service takes ({settings.max_disk_mb}).",
    )
    answer = await service.post("/v22_1/task-submit", json=body(group, diskmb=1))
    assert answer.status_code == 422
