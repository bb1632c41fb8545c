"""Batches in lists of jobs, in events, and in the usage of the group."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from service_world import GroupOfTest, call, claim_jobs, make_group, make_node

from leruli_queue.groups.users import create_user
from leruli_queue.jobs import batch_references, events
from leruli_queue.jobs.attempts import AttemptId, start_attempt
from leruli_queue.jobs.outcomes import Outcome, Receipt
from leruli_queue.jobs.receipts import end_attempt
from leruli_queue.jobs.retries import Retries
from leruli_queue.store.pool import Pool


async def submit(
    service: httpx.AsyncClient, secret: str, count: int, batch: UUID | None, called: str = ""
) -> list[str]:
    job = {"secret": secret, "codeversion": "psi4:1.5", "cores": 2}
    if batch:
        job |= {"batchid": str(batch), "batchname": called}
    bodies = [job | {"bucketid": str(uuid4())} for _ in range(count)]
    answer = await service.post("/v22_1/bulk/task-submit", json=bodies)
    assert {entry["status"] for entry in answer.json()} == {200}, answer.text
    return [entry["data"] for entry in answer.json()]


async def another_user(pool: Pool, group: GroupOfTest, name: str) -> str:
    async with pool.acquire() as connection:
        return await create_user(connection, group.id, group.token, name=name, is_admin=False)


async def pages(service: httpx.AsyncClient, path: str, **wanted: Any) -> list[dict[str, Any]]:
    """All jobs of a list, page by page."""
    found, after = [], None
    while True:
        page = await call(service, path, after=after, **wanted)
        found += page["jobs"]
        after = page["next"]
        if after is None:
            return found


async def refusal(service: httpx.AsyncClient, path: str, **body: Any) -> int:
    answer = await service.post(f"/v22_1/{path}", json=body)
    assert answer.json()["detail"]
    return answer.status_code


def ids(jobs: list[dict[str, Any]]) -> list[str]:
    return [job["jobid"] for job in jobs]


async def end(
    pool: Pool, group: GroupOfTest, *, wall_s: float, cpu_s: float | None, exit_code: int = 0
) -> None:
    """Run the oldest job of the group to its end."""
    node = await make_node(pool, group)
    [claim] = await claim_jobs(pool, group, 1)
    attempt = AttemptId(claim["job_id"], claim["number"])
    await start_attempt(pool, node, attempt, "startkey")
    receipt = Receipt(Outcome.ENDED, exit_code=exit_code, wall_s=wall_s, cpu_s=cpu_s)
    async with pool.acquire() as connection:
        await end_attempt(connection, node, attempt, receipt, Retries(5, 30.0))


async def test_task_list_names_the_batch_and_lists_one(
    service: httpx.AsyncClient, pool: Pool, group: GroupOfTest
) -> None:
    batch = uuid4()
    mine: dict[str, Any] = {"secret": group.user_secret}
    jobs = await submit(service, group.user_secret, 5, batch, "scan")
    [alone] = await submit(service, group.user_secret, 1, None)
    await submit(service, group.user_secret, 2, uuid4(), "scan")
    jobs += await submit(service, group.user_secret, 2, batch)
    found = {job["jobid"]: job for job in await pages(service, "task-list", **mine)}
    assert {(found[job]["batchid"], found[job]["batchname"]) for job in jobs} == {
        (str(batch), "scan")
    }
    assert (found[alone]["batchid"], found[alone]["batchname"]) == (None, None)
    assert (await call(service, "task-detail", jobid=jobs[0], **mine))["batchname"] == "scan"

    # Jobs that ended are in the order of their age too, not in that of their ends.
    for _ in range(3):
        await end(pool, group, wall_s=1.0, cpu_s=1.0)
    chosen = mine | {"batchid": str(batch)}
    assert ids(await pages(service, "task-list", limit=2, **chosen)) == jobs[::-1]
    assert ids(await pages(service, "task-list", states=["completed"], **chosen)) == jobs[2::-1]
    assert await pages(service, "task-list", until="2020-01-01", **chosen) == []


async def test_task_list_and_events_of_an_others_batch_are_refused(
    service: httpx.AsyncClient, pool: Pool, group: GroupOfTest
) -> None:
    batch = uuid4()
    await submit(service, group.admin_secret, 1, batch, "scan")
    answers = set()
    for path in ("task-list", "task-events"):
        for one in (batch, uuid4()):
            body = {"secret": group.user_secret, "batchid": str(one)}
            answer = await service.post(f"/v22_1/{path}", json=body)
            assert answer.status_code == 404
            answers.add(answer.text)
    assert len(answers) == 1
    # Two users may have a batch of one id.
    [own] = await submit(service, group.user_secret, 1, batch, "mine")
    found = await pages(service, "task-list", secret=group.user_secret, batchid=str(batch))
    assert [(job["jobid"], job["batchname"]) for job in found] == [(own, "mine")]


async def test_activity_lists_batches_of_the_group_by_name_and_by_id(
    service: httpx.AsyncClient, pool: Pool, group: GroupOfTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def listed(**wanted: Any) -> list[str]:
        return ids(await pages(service, "group-activity", grouptoken=group.token, **wanted))

    bob = await another_user(pool, group, "bob")
    other = await make_group(pool, "physicists")
    first, second = UUID("abcd1111" + "0" * 24), UUID("abcd2222" + "0" * 24)
    a = await submit(service, group.user_secret, 3, first, "scan")
    b = await submit(service, bob, 2, second, "scan")
    await submit(service, bob, 1, None)
    await submit(service, other.user_secret, 1, first, "theirs")
    assert await listed(batch="scan") == [*b[::-1], *a[::-1]]
    assert await listed(batch="scan", user="bob") == b[::-1]
    assert await listed(batch="scan", states=["received"], limit=1) == [*b[::-1], *a[::-1]]
    assert await listed(batch="scan", states=["running"]) == []
    for part in ("ABCD1", "abcd1111-0000", str(first)):
        assert await listed(batch=part) == a[::-1], part
    assert await listed(batch="abcd") == [*b[::-1], *a[::-1]]
    token = {"grouptoken": group.token}
    for wanted in ({"batch": "theirs"}, {"batch": "abc"}, {"batch": "abcd1", "user": "bob"}):
        assert await refusal(service, "group-activity", **token, **wanted) == 404, wanted
    monkeypatch.setattr(batch_references, "_MOST", 1)
    assert await refusal(service, "group-activity", **token, batch="scan") == 422
    assert await listed(batch=str(second)) == b[::-1]


async def test_events_name_the_batch_and_are_read_of_one(
    service: httpx.AsyncClient, pool: Pool, group: GroupOfTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So that a page without an event of the batch is one of many.
    monkeypatch.setattr(events, "_MOST_SCANNED", 3)
    batch = uuid4()
    mine, ours = {"secret": group.user_secret}, {"grouptoken": group.token}
    others = await submit(service, group.user_secret, 10, None)
    [job] = await submit(service, group.user_secret, 1, batch, "scan")
    more = await submit(service, group.user_secret, 10, uuid4(), "other")
    start = (await call(service, "task-events", **mine))["cursor"]
    await pool.execute("UPDATE jobs SET state = 'submitted'")
    for path, wanted in (
        ("task-events", mine | {"batchid": str(batch)}),
        ("group-events", ours | {"batch": "scan"}),
        ("group-events", ours | {"batch": str(batch)[:8]}),
    ):
        answer = await call(service, path, cursor=start, wait=20, **wanted)
        told = [(one["jobid"], one["batchid"], one["batchname"]) for one in answer["events"]]
        assert told == [(job, str(batch), "scan")], path
    answer = await call(service, "group-events", cursor=start, **ours)
    assert {one["jobid"] for one in answer["events"]} == {*others, job, *more}
    named = {(one["jobid"] in others, one["batchname"] is None) for one in answer["events"]}
    assert named == {(True, True), (False, False)}
    assert await refusal(service, "group-events", batch="nothing", **ours) == 404


async def test_usage_by_batch_and_of_one_batch(
    service: httpx.AsyncClient, pool: Pool, group: GroupOfTest
) -> None:
    async def usage(**wanted: Any) -> list[dict[str, Any]]:
        answer = await call(service, "group-usage", grouptoken=group.token, **wanted)
        rows: list[dict[str, Any]] = answer["rows"]
        return rows

    batch, later = uuid4(), uuid4()
    await submit(service, group.user_secret, 2, batch, "scan")
    await submit(service, group.user_secret, 1, None)
    await submit(service, group.user_secret, 1, later, "scan")
    await end(pool, group, wall_s=3600.0, cpu_s=1800.0)
    await end(pool, group, wall_s=1800.0, cpu_s=None, exit_code=1)
    await end(pool, group, wall_s=900.0, cpu_s=900.0)
    await end(pool, group, wall_s=60.0, cpu_s=0.0)
    by_batch = await usage(by=["batch"])
    figures = [
        tuple(row[key] for key in ("batchid", "batchname", "jobs", "failed", "corehours"))
        for row in by_batch
    ]
    assert figures == [
        (str(batch), "scan", 2, 1, pytest.approx(3.0)),
        (str(later), "scan", 1, 0, pytest.approx(1 / 30)),
        (None, None, 1, 0, pytest.approx(0.5)),
    ]
    # Of the attempt without CPU time nobody knows how much it used.
    waste = [(row["measuredcorehours"], row["cpuhours"]) for row in by_batch]
    assert waste[0] == pytest.approx((2.0, 0.5))
    assert waste[1] == pytest.approx((1 / 30, 0.0))
    assert waste[2] == pytest.approx((0.5, 0.25))
    [one] = await usage(by=[], batch=str(batch))
    assert (one["jobs"], one["batchid"]) == (2, None)
    assert one["corehours"] == pytest.approx(3.0)
    [both] = await usage(by=["user"], batch="scan")
    assert (both["user"], both["jobs"]) == ("ada", 3)
    assert await usage(by=["user"], batch="scan", until="2020-01-01") == []
    assert await refusal(service, "group-usage", grouptoken=group.token, batch="none") == 404
    # As before: nobody gets rows by batch who does not ask.
    assert {(row["user"], row["batchid"]) for row in await usage()} == {("ada", None)}
