"""The size of a job's /dev/shm, from the submission to the container's configuration."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from dispatch_world import Dispatching, children_of
from service_world import GroupOfTest, call, claim_jobs, make_jobs

from leruli_queue.access.authenticate import Node
from leruli_queue.dispatch.nodes import usable_nodes
from leruli_queue.nomad.clusters import DEFAULT
from leruli_queue.nomad.gateway import NomadGateway
from leruli_queue.store.pool import Pool

TOO_LARGE = (
    "Parameter shmmb: 2001 is more than the memory of the job (memorymb: 2000). What a job writes "
    "to /dev/shm counts as its memory: ask for a smaller /dev/shm or for more memory."
)


def body(group: GroupOfTest, **more: Any) -> dict[str, Any]:
    return {
        "secret": group.user_secret,
        "bucketid": str(uuid4()),
        "codeversion": "psi4:1.5",
        **more,
    }


@pytest.mark.parametrize("path", ["task-submit", "bulk/task-submit"])
async def test_the_size_is_stored_and_answered(
    service: httpx.AsyncClient, group: GroupOfTest, path: str
) -> None:
    asked = [{"shmmb": 500}, {}, {"diskmb": 700}, {"diskmb": 700, "shmmb": 1}]
    bodies = [body(group, **one) for one in asked]
    if path == "task-submit":
        ids = [await call(service, path, **one) for one in bodies]
    else:
        answer = await service.post(f"/v22_1/{path}", json=bodies)
        ids = [one["data"] for one in answer.json()]
    # Submitted again with another size, it is the same job with its first size.
    assert await call(service, "task-submit", **bodies[0] | {"shmmb": 600}) == ids[0]
    listed = await call(service, "task-list", secret=group.user_secret)
    told = {one["jobid"]: (one["shmmb"], one["diskmb"]) for one in listed["jobs"]}
    assert [told[job] for job in ids] == [(500, None), (None, None), (None, 700), (1, 700)]
    detail = await call(service, "task-detail", secret=group.user_secret, jobid=ids[0])
    assert detail["shmmb"] == 500


async def test_it_is_at_least_1_and_at_most_the_memory(
    service: httpx.AsyncClient, group: GroupOfTest
) -> None:
    for asked, sentence in (
        (2001, TOO_LARGE),
        (0, "Parameter shmmb: Input should be greater than or equal to 1"),
    ):
        wrong = body(group, memorymb=2000, shmmb=asked)
        answer = await service.post("/v22_1/task-submit", json=wrong)
        assert (answer.status_code, answer.json()["detail"]) == (422, sentence)
        [entry] = (await service.post("/v22_1/bulk/task-submit", json=[wrong])).json()
        assert entry == {"status": 422, "data": sentence}
    assert await call(service, "task-submit", **body(group, memorymb=2000, shmmb=2000))


async def test_a_check_answers_the_size_it_understood(
    service: httpx.AsyncClient, group: GroupOfTest
) -> None:
    """So a client can recognise an older service, which ignores the field."""
    jobs = [{"codeversion": "psi4:1.5", "shmmb": 500}, {"codeversion": "psi4:1.5"}]
    answers = await call(service, "task-check", secret=group.user_secret, jobs=jobs)
    assert [answer["data"]["shmmb"] for answer in answers] == [500, None]


async def sizes_in_nomad(gateway: NomadGateway, job_id: UUID) -> list[int]:
    """The size of /dev/shm in bytes of a parent's child jobs; 0: Docker's default."""
    found = []
    for child in await children_of(gateway, job_id):
        path = child["ID"].replace("/", "%2F")
        job = await gateway._call(lambda path=path: gateway._client.job.get_job(path))
        [group] = job["TaskGroups"]
        [task] = group["Tasks"]
        found.append(task["Config"]["shm_size"])
    return found


async def test_nomad_is_asked_for_the_size(
    dispatcher: Dispatching, pool: Pool, group: GroupOfTest, node: Node
) -> None:
    """Each size has its parent job, also if the dispatcher was killed after the claim."""
    [large] = await make_jobs(pool, group, 1, shm_mb=3000)
    digest = (await usable_nodes(pool, DEFAULT))[group.id].digest
    await claim_jobs(pool, group, 1, node_set=digest)
    [small] = await make_jobs(pool, group, 1, shm_mb=1, disk_mb=100)
    [usual] = await make_jobs(pool, group, 1)
    assert await dispatcher.feeder.feed_once() == 3
    for job_id, size in ((large, 3000 * 2**20), (small, 2**20), (usual, 0)):
        assert await sizes_in_nomad(dispatcher.gateway, job_id) == [size]
