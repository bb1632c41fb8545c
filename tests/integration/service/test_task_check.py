"""task-check: jobs that a submission would refuse, and jobs that no machine can hold now."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import httpx
from service_world import GroupOfTest, call, make_node

from leruli_queue.access.secrets import SecretType, make
from leruli_queue.store.pool import Pool

JOB = {"codeversion": "psi4:1.5"}
WRONG: list[dict[str, Any]] = [
    {},
    {"codeversion": "psi4:latest"},
    {"codeversion": "psi4"},
    JOB | {"cores": 0},
    JOB | {"cores": "4"},
    JOB | {"cores": 10**6},
    JOB | {"memorymb": 5},
    JOB | {"memorymb": 2**31 - 1},
    JOB | {"timelimit": 2**31 - 1},
    JOB | {"diskmb": 1},
    JOB | {"diskmb": 2**31 - 1},
    JOB | {"shmmb": 0},
    JOB | {"shmmb": "64"},
    JOB | {"shmmb": 4001},
    JOB | {"name": "x" * 201},
    JOB | {"name": "a\nb"},
    JOB | {"priority": 2000},
]


async def check(
    service: httpx.AsyncClient, group: GroupOfTest, *jobs: dict[str, Any]
) -> list[dict[str, Any]]:
    answers: list[dict[str, Any]] = await call(
        service, "task-check", secret=group.user_secret, jobs=list(jobs)
    )
    return answers


async def test_it_refuses_the_same_jobs_as_a_submission_with_the_same_sentences(
    service: httpx.AsyncClient, group: GroupOfTest, pool: Pool
) -> None:
    await make_node(pool, group)
    jobs = [*WRONG, JOB, JOB | {"name": make(SecretType.API).text}]
    submitted = await service.post(
        "/v22_1/bulk/task-submit",
        json=[{"secret": group.user_secret, "bucketid": str(uuid4())} | job for job in jobs],
    )
    answers = await check(service, group, *jobs)
    assert [answer["status"] for answer in answers] == [400] * len(WRONG) + [200, 400]
    assert answers[len(WRONG)]["data"] == {"warnings": [], "shmmb": None, "retry": None}
    for answer, entry in zip(answers, submitted.json(), strict=True):
        if answer["status"] == 400:
            assert (entry["status"], entry["data"]) == (422, answer["data"])


async def test_a_check_stores_nothing(
    service: httpx.AsyncClient, group: GroupOfTest, pool: Pool
) -> None:
    await check(service, group, JOB, JOB)
    assert await pool.fetchval("SELECT count(*) FROM jobs") == 0


async def test_it_warns_of_jobs_that_no_machine_can_hold(
    service: httpx.AsyncClient, group: GroupOfTest, pool: Pool
) -> None:
    large = JOB | {"cores": 8, "memorymb": 4000}
    for expected in (
        "No machine of the group can hold it now: it would be waiting for a node: no machine of "
        "the group is connected",
        "No machine of the group can hold it now: it would be waiting for a node with 8 cores and "
        "4000 MB; the largest, machine, has 4 cores and 8000 MB",
        "No machine of the group can hold it now: it would be waiting for a node with 8 cores and "
        "4000 MB; the one with most cores, machine, has 16 cores and 2000 MB, the one with most "
        "memory, machine, has 4 cores and 8000 MB",
        None,
    ):
        [answer] = await check(service, group, large)
        assert answer["status"] == 200
        assert answer["data"]["warnings"] == ([expected] if expected else [])
        nodes = await pool.fetchval("SELECT count(*) FROM nodes")
        cores, memory_mb = [(4, 8000), (16, 2000), (8, 4000), (1, 100)][nodes]
        await make_node(pool, group, cores=cores, memory_mb=memory_mb)


async def test_it_warns_of_a_retry_that_no_machine_can_hold(
    service: httpx.AsyncClient, group: GroupOfTest, pool: Pool
) -> None:
    await make_node(pool, group)  # 8000 MB
    rule = JOB | {"memorymb": 3000, "retrymemorymb": 16_000}
    warned = (
        "No machine of the group can hold a retry with {} MB now: it would be waiting for a node "
        "with 1 core and {} MB; the largest, machine, has 4 cores and 8000 MB"
    )
    asked: list[tuple[dict[str, Any], int | None]] = [
        # Doubled once, twice, and up to the most.
        (rule | {"retry": 1}, None),
        (rule | {"retry": 2}, 12_000),
        (rule | {"retry": 3}, 16_000),
        (rule | {"retry": 100, "retrymemorymb": 8000}, None),
        # It asks for no more memory.
        (JOB | {"memorymb": 3000, "retry": 3, "retryon": ["exit=any"]}, None),
    ]
    answers = await check(service, group, *[job for job, _ in asked])
    assert [answer["data"]["warnings"] for answer in answers] == [
        [warned.format(memory_mb, memory_mb)] if memory_mb else [] for _, memory_mb in asked
    ]
    # A job that does not fit itself is warned of once.
    [answer] = await check(service, group, rule | {"memorymb": 9000, "retry": 3})
    [warning] = answer["data"]["warnings"]
    assert "9000 MB" in warning
    await make_node(pool, group, memory_mb=16_000)
    answers = await check(service, group, *[job for job, _ in asked])
    assert [answer["data"]["warnings"] for answer in answers] == [[]] * len(asked)


async def test_it_names_a_machine_that_is_out_of_service(
    service: httpx.AsyncClient, group: GroupOfTest, pool: Pool
) -> None:
    await make_node(pool, group)
    node = await make_node(pool, group, cores=64)
    await pool.execute("UPDATE nodes SET drained_at = now() WHERE id = $1", node.id)
    [answer] = await check(service, group, JOB | {"cores": 32})
    [warning] = answer["data"]["warnings"]
    assert warning.endswith("the only machine that large was taken out of service by an admin")


async def test_a_machine_reserved_for_another_job_can_hold_it(
    service: httpx.AsyncClient, group: GroupOfTest, pool: Pool
) -> None:
    node = await make_node(pool, group)
    await pool.execute("UPDATE nodes SET reserved_for = $1 WHERE id = $2", uuid4(), node.id)
    [answer] = await check(service, group, JOB)
    assert (answer["status"], answer["data"]["warnings"]) == (200, [])


async def test_a_thousand_jobs_at_once(service: httpx.AsyncClient, group: GroupOfTest) -> None:
    for count, status in ((0, 200), (1000, 200), (1001, 422)):
        body = {"secret": group.user_secret, "jobs": [JOB] * count}
        answer = await service.post("/v22_1/task-check", json=body)
        assert answer.status_code == status, answer.text
        assert status != 200 or len(answer.json()) == count


async def test_a_group_without_a_compute_secret_gets_412(
    service: httpx.AsyncClient, group: GroupOfTest, pool: Pool
) -> None:
    await pool.execute(
        "UPDATE groups SET compute_epoch = 0, compute_key_id = NULL, compute_hash = NULL"
    )
    answer = await service.post(
        "/v22_1/task-check", json={"secret": group.user_secret, "jobs": [JOB]}
    )
    assert answer.status_code == 412
    assert "no compute secret" in answer.json()["detail"]
