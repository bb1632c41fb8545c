"""group-activity, group-usage, group-audit and task-bucket."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from service_world import GroupOfTest, claim_jobs, make_group, make_jobs, make_node

from leruli_queue.jobs.attempts import AttemptId, start_attempt
from leruli_queue.jobs.outcomes import Outcome, Receipt
from leruli_queue.jobs.receipts import end_attempt
from leruli_queue.jobs.retries import Retries
from leruli_queue.store.pool import Pool


async def post(service: httpx.AsyncClient, call: str, **body: Any) -> httpx.Response:
    return await service.post(f"/v22_1/{call}", json=body)


async def activity(service: httpx.AsyncClient, group: GroupOfTest, **wanted: Any) -> dict[str, Any]:
    answer = await post(service, "group-activity", grouptoken=group.token, **wanted)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def ids(page: dict[str, Any]) -> list[UUID]:
    return [UUID(job["jobid"]) for job in page["jobs"]]


async def run(
    pool: Pool, group: GroupOfTest, count: int, *, exit_code: int = 0, wall_s: float = 1800.0
) -> None:
    """Let the oldest jobs of the group run to their end."""
    node = await make_node(pool, group)
    for claim in await claim_jobs(pool, group, count):
        attempt = AttemptId(claim["job_id"], claim["number"])
        await start_attempt(pool, node, attempt, "startkey")
        receipt = Receipt(Outcome.ENDED, exit_code=exit_code, wall_s=wall_s)
        async with pool.acquire() as connection:
            await end_attempt(connection, node, attempt, receipt, Retries(5, 30.0))


async def test_activity_shows_users_and_jobs_without_buckets(
    service: httpx.AsyncClient, group: GroupOfTest, pool: Pool
) -> None:
    made = await make_jobs(pool, group, 3, name="water")
    await run(pool, group, 1, exit_code=3)
    page = await activity(service, group)
    assert ids(page) == made[::-1]
    assert page["next"] is None
    waiting, ended = page["jobs"][0], page["jobs"][2]
    assert waiting["user"] == "ada"
    assert (waiting["code"], waiting["version"], waiting["cores"]) == ("psi4", "1.3.2", 1)
    assert waiting["state"] == "received"
    assert ended["state"] == "failed"
    assert ended["reason"] == "its command ended with exit code 3"
    assert ended["exitcode"] == 3
    assert ended["attempts"] == 1
    assert ended["receivedat"] <= ended["submittedat"] <= ended["endedat"]
    text = str(page)
    for bucket in await pool.fetch("SELECT bucket FROM jobs"):
        assert bucket["bucket"] not in text
    assert waiting["name"] == "water"


async def test_activity_says_why_a_job_is_queued(
    service: httpx.AsyncClient, group: GroupOfTest, pool: Pool
) -> None:
    await make_jobs(pool, group, 1, cores=64)
    page = await activity(service, group)
    assert page["jobs"][0]["reason"] == "waiting for a node: no machine of the group is connected"
    await make_node(pool, group, cores=16)
    page = await activity(service, group)
    assert page["jobs"][0]["reason"].startswith("waiting for a node with 64 cores")


@pytest.mark.parametrize("states", [None, ["received"], ["received", "completed", "received"]])
async def test_pages_hold_each_job_once(
    service: httpx.AsyncClient, group: GroupOfTest, pool: Pool, states: list[str] | None
) -> None:
    made = await make_jobs(pool, group, 25)
    other = await make_group(pool, "physicists")
    await make_jobs(pool, other, 5)
    seen: list[UUID] = []
    after = None
    while True:
        page = await activity(service, group, limit=10, after=after, states=states)
        seen += ids(page)
        after = page["next"]
        if after is None:
            break
        await make_jobs(pool, group, 1)  # a new job does not shift the pages
    assert seen == made[::-1]


async def test_activity_by_state_user_and_time(
    service: httpx.AsyncClient, group: GroupOfTest, pool: Pool
) -> None:
    made = await make_jobs(pool, group, 3)
    await run(pool, group, 1)
    assert ids(await activity(service, group, states=["completed"])) == [made[0]]
    assert ids(await activity(service, group, states=["received"])) == made[:0:-1]
    assert ids(await activity(service, group, states=[])) == []
    assert ids(await activity(service, group, user="ada")) == made[::-1]
    assert ids(await activity(service, group, user="admin")) == []
    unknown = await post(service, "group-activity", grouptoken=group.token, user="nobody")
    assert unknown.status_code == 404
    now = datetime.now(UTC)
    hour = timedelta(hours=1)
    assert ids(await activity(service, group, since=str(now - hour))) == made[::-1]
    assert ids(await activity(service, group, since=str(now + hour))) == []
    assert ids(await activity(service, group, until=str(now - hour), user="ada")) == []
    naive = (now - hour).replace(tzinfo=None).isoformat()
    assert ids(await activity(service, group, since=naive)) == made[::-1]


async def test_another_groups_user_is_unknown(
    service: httpx.AsyncClient, group: GroupOfTest, pool: Pool
) -> None:
    other = await make_group(pool, "physicists")
    await pool.execute(
        "UPDATE users SET name = 'kurt' WHERE group_id = $1 AND name = 'ada'", other.id
    )
    answers = [
        await post(service, "group-activity", grouptoken=group.token, user=name)
        for name in ("kurt", "nobody")
    ]
    assert [answer.status_code for answer in answers] == [404, 404]
    assert answers[0].text == answers[1].text


async def test_usage_sums_up_ended_jobs(
    service: httpx.AsyncClient, group: GroupOfTest, pool: Pool
) -> None:
    await make_jobs(pool, group, 2, cores=4)
    await make_jobs(pool, group, 1, code="xtb", version="6.4")
    await make_jobs(pool, group, 1)  # it does not end, so it is not counted
    await run(pool, group, 1)
    await run(pool, group, 1, exit_code=1, wall_s=900.0)
    await run(pool, group, 1, wall_s=3600.0)
    await pool.execute(
        "UPDATE jobs SET ended_at = '2026-10-31 23:30+00'"
        " WHERE code = 'xtb' AND state = 'completed'"
    )
    answer = await post(service, "group-usage", grouptoken=group.token)
    month = f"{datetime.now(UTC):%Y-%m}"
    zero = {"completed": 0, "failed": 0, "cancelled": 0, "batchid": None, "batchname": None}
    zero |= {"measuredcorehours": 0.0, "cpuhours": 0.0}
    assert answer.json()["rows"] == [
        {"user": "ada", "code": "xtb:6.4", "month": "2026-10", "jobs": 1, "corehours": 1.0}
        | zero | {"completed": 1},
        {"user": "ada", "code": "psi4:1.3.2", "month": month, "jobs": 2, "corehours": 3.0}
        | zero | {"completed": 1, "failed": 1},
    ]  # fmt: skip
    total = await post(service, "group-usage", grouptoken=group.token, by=[])
    [row] = total.json()["rows"]
    assert (row["user"], row["code"], row["month"]) == (None, None, None)
    assert (row["jobs"], row["corehours"]) == (3, 4.0)
    october = await post(
        service, "group-usage", grouptoken=group.token, until="2026-11-01T00:00:00Z"
    )
    assert [row["code"] for row in october.json()["rows"]] == ["xtb:6.4"]


async def test_usage_as_csv(service: httpx.AsyncClient, group: GroupOfTest, pool: Pool) -> None:
    await make_jobs(pool, group, 1)
    await run(pool, group, 1)
    answer = await post(service, "group-usage", grouptoken=group.token, by=["user"], format="csv")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    [row] = csv.DictReader(io.StringIO(answer.text))
    assert row == {
        "user": "ada", "code": "", "month": "", "jobs": "1", "completed": "1", "failed": "0",
        "cancelled": "0", "corehours": "0.5", "measuredcorehours": "0.0", "cpuhours": "0.0",
        "batchid": "", "batchname": "",
    }  # fmt: skip


async def test_a_jobs_owner_and_the_admins_get_its_bucket(
    service: httpx.AsyncClient, group: GroupOfTest, pool: Pool
) -> None:
    [job_id] = await make_jobs(pool, group, 1)
    bucket = await pool.fetchval("SELECT bucket FROM jobs")
    asked = {"jobid": str(job_id)}
    mine = await post(service, "task-bucket", secret=group.user_secret, **asked)
    assert mine.json() == {"bucketid": bucket}
    assert await actions(service, group) == CREATION
    for purpose in ("get", "purge"):
        theirs = await post(
            service, "task-bucket", secret=group.admin_secret, purpose=purpose, **asked
        )
        assert theirs.json() == {"bucketid": bucket}
    assert (await actions(service, group))[:2] == ["job-purged", "job-fetched"]
    unknown = await post(service, "task-bucket", secret=group.admin_secret, jobid=str(uuid4()))
    assert unknown.status_code == 404


CREATION = ["compute-secret-rotated", "user-created", "user-created", "group-created"]


async def entries(
    service: httpx.AsyncClient, group: GroupOfTest, **wanted: Any
) -> list[dict[str, Any]]:
    answer = await post(service, "group-audit", adminsecret=group.admin_secret, **wanted)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["entries"]
    return found


async def actions(service: httpx.AsyncClient, group: GroupOfTest, **wanted: Any) -> list[str]:
    return [entry["action"] for entry in await entries(service, group, **wanted)]


async def test_the_audit_says_who_did_what(
    service: httpx.AsyncClient, group: GroupOfTest, pool: Pool
) -> None:
    assert await actions(service, group) == CREATION
    admin = {"adminsecret": group.admin_secret}
    await post(service, "group-create-user", name="grace", admin=True, **admin)
    await post(service, "group-revoke-user", name="grace", **admin)
    await post(service, "group-rotate-compute-secret", **admin)
    [own, others] = await make_jobs(pool, group, 2)
    await post(service, "task-cancel", secret=group.user_secret, jobid=str(own))
    for _ in range(2):
        await post(service, "task-cancel", secret=group.admin_secret, jobid=str(others))
    found = await entries(service, group, limit=4)
    assert [(entry["actor"], entry["action"], entry["subject"]) for entry in found] == [
        ("admin", "job-cancelled", str(others)),
        ("admin", "compute-secret-rotated", None),
        ("admin", "user-revoked", "grace"),
        ("admin", "user-created", "grace"),
    ]
    assert found[-1]["detail"] == "as an admin"
    operator = await entries(service, group, action="group-created")
    assert [entry["actor"] for entry in operator] == ["operator of the service"]
    older = await actions(service, group, after=found[-1]["id"])
    assert older == CREATION
    assert await actions(service, group, since="2999-01-01") == []
    assert await actions(service, group, until="2000-01-01") == []


async def test_refused_calls_are_not_in_the_audit(
    service: httpx.AsyncClient, group: GroupOfTest
) -> None:
    admin = {"adminsecret": group.admin_secret}
    assert (await post(service, "group-create-user", name="ada", **admin)).status_code == 409
    assert (await post(service, "group-revoke-user", name="admin", **admin)).status_code == 409
    assert await actions(service, group) == CREATION


@pytest.mark.parametrize(
    "change",
    ["UPDATE audit SET detail = 'x'", "DELETE FROM audit", "TRUNCATE audit"],
)
async def test_the_audit_cannot_be_changed(pool: Pool, group: GroupOfTest, change: str) -> None:
    before = await pool.fetchval("SELECT count(*) FROM audit")
    assert before
    with pytest.raises(Exception, match="only appended to"):
        await pool.execute(change)
    assert await pool.fetchval("SELECT count(*) FROM audit") == before


async def test_an_audit_has_only_entries_of_its_group(
    service: httpx.AsyncClient, group: GroupOfTest, pool: Pool
) -> None:
    other = await make_group(pool, "physicists")
    await post(
        service, "group-create-user", adminsecret=other.admin_secret, name="kurt", admin=False
    )
    assert await actions(service, group) == CREATION
