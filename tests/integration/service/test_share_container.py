"""`sharecontainer` of a job, from the submission to the answers that show its limits."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import httpx
import pytest
from service_world import GroupOfTest, call


def body(group: GroupOfTest, **more: Any) -> dict[str, Any]:
    return {
        "secret": group.user_secret,
        "bucketid": str(uuid4()),
        "codeversion": "psi4:1.5",
        **more,
    }


@pytest.mark.parametrize("path", ["task-submit", "bulk/task-submit"])
async def test_it_is_stored_and_answered(
    service: httpx.AsyncClient, group: GroupOfTest, path: str
) -> None:
    asked = [{"sharecontainer": True}, {}, {"diskmb": 700}, {"shmmb": 9, "sharecontainer": True}]
    bodies = [body(group, **one) for one in asked]
    if path == "task-submit":
        ids = [await call(service, path, **one) for one in bodies]
    else:
        answer = await service.post(f"/v22_1/{path}", json=bodies)
        ids = [one["data"] for one in answer.json()]
    # Submitted again with another choice, it is the same job with its first one.
    assert await call(service, "task-submit", **bodies[0] | {"sharecontainer": False}) == ids[0]
    assert await call(service, "task-submit", **bodies[1] | {"sharecontainer": True}) == ids[1]
    listed = await call(service, "task-list", secret=group.user_secret)
    told = {
        one["jobid"]: (one["sharecontainer"], one["diskmb"], one["shmmb"]) for one in listed["jobs"]
    }
    assert [told[job] for job in ids] == [
        (True, None, None),
        (False, None, None),
        (False, 700, None),
        (True, None, 9),
    ]
    detail = await call(service, "task-detail", secret=group.user_secret, jobid=ids[0])
    assert detail["sharecontainer"] is True


async def test_anything_but_true_and_false_is_refused(
    service: httpx.AsyncClient, group: GroupOfTest
) -> None:
    for wrong in ("yes", 1, None):
        answer = await service.post("/v22_1/task-submit", json=body(group, sharecontainer=wrong))
        assert answer.status_code == 422
        assert answer.json()["detail"].startswith("Parameter sharecontainer:")
