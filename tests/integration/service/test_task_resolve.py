"""task-resolve: find one's own jobs by the first or last digits of an id, or by the name."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import httpx
import pytest
from service_world import GroupOfTest, call, make_group, make_jobs, make_user

from leruli_queue.access.secrets import SecretType, make
from leruli_queue.jobs import resolve
from leruli_queue.jobs.states import JobState
from leruli_queue.store.pool import Pool

OLD = UUID("019a0000-0000-7000-8000-00000000abcd")
MIDDLE = UUID("019a0001-0000-7000-8000-1234abcd5678")
NEW = UUID("019b0000-0000-7000-8123-4567019a0000")

REFERENCES: list[tuple[str, list[UUID]]] = [
    ("0000abcd", [OLD]),
    ("ABCD", [OLD]),
    ("abcd5678", [MIDDLE]),
    ("1234-abcd-5678", [MIDDLE]),
    ("019a", [MIDDLE, OLD]),
    ("019a0000", [NEW, OLD]),  # the end of one id, the beginning of another
    (str(MIDDLE), [MIDDLE]),
    (MIDDLE.hex, [MIDDLE]),
    (MIDDLE.hex[3:], [MIDDLE]),
    (MIDDLE.hex[:29], [MIDDLE]),
    (str(NEW)[9:], [NEW]),
    ("water", [NEW, OLD]),
    ("5678", [MIDDLE]),  # both its name and the end of its id
    ("bcd", []),
    ("1234abcd", []),
    ("wat", []),
    ("%", []),
    ("----", []),
    ("f" * 32, []),
    ("ffff", []),
]


async def found(
    service: httpx.AsyncClient, secret: str, reference: str, **more: Any
) -> tuple[list[UUID], bool]:
    answer = await call(service, "task-resolve", secret=secret, reference=reference, **more)
    for job in answer["jobs"]:
        assert set(job) == {"jobid", "name", "state", "receivedat"}
    return [UUID(job["jobid"]) for job in answer["jobs"]], answer["more"]


@pytest.fixture
async def jobs(pool: Pool, group: GroupOfTest) -> None:
    user = await make_user(pool, group)
    for number, (job_id, state) in enumerate(
        [(OLD, "completed"), (MIDDLE, "received"), (NEW, "failed")]
    ):
        await pool.execute(
            """
            INSERT INTO jobs (id, group_id, user_id, bucket, name, code, version, cores, memory_mb,
                              time_limit_s, state)
            VALUES ($1, $2, $3, $4, $5, 'psi4', '1.5', 1, 4000, 60, $6)
            """,
            job_id,
            group.id,
            user.id,
            f"bucket-{number}",
            ["water", "5678", "water"][number],
            state,
        )


async def test_a_reference_is_a_part_of_an_id_or_a_name(
    service: httpx.AsyncClient, group: GroupOfTest, jobs: None
) -> None:
    for reference, expected in REFERENCES:
        assert await found(service, group.user_secret, reference) == (expected, False), reference


async def test_the_newest_come_first_and_the_answer_says_if_there_are_more(
    service: httpx.AsyncClient, group: GroupOfTest, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolve, "_SCAN_AT_ONCE", 7)
    made = await make_jobs(pool, group, 50, name="water")
    # Ids of one millisecond begin with the same digits. The jobs are in several states.
    for state, rest in ((JobState.COMPLETED, 0), (JobState.FAILED, 1)):
        await pool.execute("UPDATE jobs SET state = $1 WHERE id = ANY($2)", state, made[rest::3])
    newest = made[::-1]
    for reference in ("water", made[0].hex[:4]):
        assert await found(service, group.user_secret, reference) == (newest[:20], True)
        assert await found(service, group.user_secret, reference, limit=1) == (newest[:1], True)
    assert await found(service, group.user_secret, made[3].hex[-8:]) == ([made[3]], False)
    for wrong in ({"limit": 21}, {"limit": 0}, {"reference": ""}, {"reference": "x" * 201}):
        body = {"secret": group.user_secret, "reference": "water"} | wrong
        assert (await service.post("/v22_1/task-resolve", json=body)).status_code == 422


async def test_an_admin_does_not_find_jobs_of_others(
    service: httpx.AsyncClient, group: GroupOfTest, pool: Pool
) -> None:
    [job_id] = await make_jobs(pool, group, 1, name="water")
    other = await make_group(pool, "physicists")
    for secret in (group.admin_secret, other.user_secret, other.admin_secret):
        for reference in ("water", str(job_id), job_id.hex[-8:], job_id.hex[:8]):
            assert await found(service, secret, reference) == ([], False)
    assert await found(service, group.user_secret, "water") == ([job_id], False)


async def test_a_secret_as_a_reference_is_refused(
    service: httpx.AsyncClient, group: GroupOfTest
) -> None:
    secret = make(SecretType.API).text
    answer = await service.post(
        "/v22_1/task-resolve", json={"secret": group.user_secret, "reference": secret}
    )
    assert answer.status_code == 422
    assert secret not in answer.text


async def test_a_user_with_too_many_jobs_learns_what_to_do(
    service: httpx.AsyncClient, group: GroupOfTest, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FAKE: the timeout is over at once, as with millions of jobs."""
    [job_id] = await make_jobs(pool, group, 1, name="water")
    monkeypatch.setattr(resolve, "_SEARCH_TIMEOUT_S", -1.0)
    answer = await service.post(
        "/v22_1/task-resolve", json={"secret": group.user_secret, "reference": "water"}
    )
    assert answer.status_code == 422
    assert "whole job id" in answer.json()["detail"]
    assert await found(service, group.user_secret, str(job_id)) == ([job_id], False)
