"""Retry rules of users: a job whose attempt failed is tried again, with more memory or time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from service_world import (
    GroupOfTest,
    call,
    claim_jobs,
    make_jobs,
    make_node,
    state_of,
)
from slot_world import KEY, ask, dispatched, ended, ids, running, take

from leruli_queue.access.authenticate import Node
from leruli_queue.jobs.abandon import Abandonment, abandon
from leruli_queue.jobs.attempts import AttemptId, StartGrant, allow_upload, start_attempt
from leruli_queue.jobs.outcomes import Outcome, Receipt
from leruli_queue.jobs.receipts import end_attempt
from leruli_queue.jobs.retries import Retries
from leruli_queue.jobs.retry_rules import RetryRule
from leruli_queue.settings import Settings
from leruli_queue.store.pool import Pool

NO_MEMORY = Receipt(Outcome.OUT_OF_MEMORY, 137, uploaded_files=2, wall_s=5.0)
NO_TIME = Receipt(Outcome.TIME_LIMIT, 143, uploaded_files=2, wall_s=60.0)
RETRIES = Retries(3, 0.0)
AGAIN = "attempt 2 of 4: killed: used more than 2000 MB; runs again with 4000 MB"

Body = Callable[..., dict[str, Any]]


@pytest.fixture
async def node(pool: Pool, group: GroupOfTest) -> Node:
    return await make_node(pool, group, memory_mb=64_000)


@pytest.fixture
def body(group: GroupOfTest) -> Body:
    """The body of a submission with a rule; fields that are None are left out."""

    def made(**changes: Any) -> dict[str, Any]:
        fields = {
            "secret": group.user_secret,
            "bucketid": str(uuid4()),
            "codeversion": "psi4:1.5",
            "memorymb": 2000,
            "timelimit": 60,
            "retry": 3,
            "retrymemorymb": 16000,
            **changes,
        }
        return {name: value for name, value in fields.items() if value is not None}

    return made


async def next_attempt(
    pool: Pool, group: GroupOfTest, node: Node, job: str
) -> tuple[AttemptId, StartGrant]:
    """The job's next attempt, claimed by the feeder and started on the node."""
    [row] = [row for row in await claim_jobs(pool, group, 100) if str(row["job_id"]) == job]
    attempt = AttemptId(UUID(job), row["number"])
    return attempt, await start_attempt(pool, node, attempt, f"start-key-{row['number']}")


async def end(pool: Pool, node: Node, attempt: AttemptId, receipt: Receipt) -> None:
    async with pool.acquire() as connection:
        await end_attempt(connection, node, attempt, receipt, RETRIES)


async def run(
    pool: Pool, group: GroupOfTest, node: Node, job: str, receipt: Receipt
) -> tuple[int, int]:
    """Run the job's next attempt to this end; return the memory and the time that it had."""
    attempt, grant = await next_attempt(pool, group, node, job)
    await end(pool, node, attempt, receipt)
    return grant.memory_mb, grant.time_limit_s


async def status(service: httpx.AsyncClient, group: GroupOfTest, job: str) -> tuple[str, str]:
    answer = await call(service, "task-status", secret=group.user_secret, jobid=job)
    return answer["status"], answer["reason"]


async def detail(service: httpx.AsyncClient, group: GroupOfTest, job: str) -> Any:
    return await call(service, "task-detail", secret=group.user_secret, jobid=job)


async def test_the_memory_is_doubled_up_to_the_most(
    pool: Pool, service: httpx.AsyncClient, group: GroupOfTest, node: Node, body: Body
) -> None:
    job = await call(service, "task-submit", **body(retrymemorymb=7000))
    had = [await run(pool, group, node, job, NO_MEMORY)]
    assert await status(service, group, job) == ("received", AGAIN)
    # While it runs again, its status still says why.
    attempt, grant = await next_attempt(pool, group, node, job)
    assert await status(service, group, job) == ("submitted", AGAIN)
    await end(pool, node, attempt, NO_MEMORY)
    had += [(grant.memory_mb, grant.time_limit_s)]
    had += [await run(pool, group, node, job, NO_MEMORY)]
    assert had == [(2000, 60), (4000, 60), (7000, 60)]
    assert await status(service, group, job) == (
        "failed",
        "killed: used more than 7000 MB; its retries may not get more memory",
    )
    shown = await detail(service, group, job)
    assert [(one["memorymb"], one["timelimit"]) for one in shown["attempts"]] == had
    assert shown["retry"] == {
        "most": 3,
        "used": 2,
        "on": ["out-of-memory"],
        "memorymb": 7000,
        "timelimit": None,
        "firstmemorymb": 2000,
        "firsttimelimit": 60,
    }


async def test_what_was_exceeded_is_doubled_and_both_after_an_exit_code(
    pool: Pool, service: httpx.AsyncClient, group: GroupOfTest, node: Node, body: Body
) -> None:
    rule = {"retry": 9, "retrytimelimit": 200}
    ends = ["out-of-memory", "time-limit", "exit=3"]
    job = await call(service, "task-submit", **body(**rule, retryon=ends))
    receipts = [NO_TIME, NO_MEMORY, Receipt(Outcome.ENDED, 3), Receipt(Outcome.ENDED, 3)]
    reasons = []
    for receipt in receipts:
        await run(pool, group, node, job, receipt)
        reasons.append((await status(service, group, job))[1].split(": ", 1)[1])
    assert reasons == [
        "time limit of 60 s reached; output up to then was uploaded; runs again with 120 s",
        "killed: used more than 2000 MB; runs again with 4000 MB",
        "its command ended with exit code 3; runs again with 8000 MB and 200 s",
        "its command ended with exit code 3; runs again with 16000 MB",
    ]
    # Another exit code is no end of the rule.
    assert await run(pool, group, node, job, ended(4)) == (16000, 200)
    assert await status(service, group, job) == ("failed", "its command ended with exit code 4")


async def test_retries_that_are_used_up(
    pool: Pool, service: httpx.AsyncClient, group: GroupOfTest, node: Node, body: Body
) -> None:
    rule = {"retry": 1, "retryon": ["exit=any"], "retrymemorymb": None}
    job = await call(service, "task-submit", **body(**rule))
    for code in (7, 8):
        assert await run(pool, group, node, job, ended(code)) == (2000, 60)
    assert await status(service, group, job) == (
        "failed",
        "its command ended with exit code 8; all of its retries are used (1)",
    )


async def test_an_event_says_why_it_runs_again(
    pool: Pool, service: httpx.AsyncClient, group: GroupOfTest, node: Node, body: Body
) -> None:
    start = await call(service, "task-events", secret=group.user_secret)
    batch = {"batchid": str(uuid4()), "batchname": "scan"}
    job = await call(service, "task-submit", **body(**batch))
    await run(pool, group, node, job, NO_MEMORY)
    await run(pool, group, node, job, ended())
    found = await call(
        service, "task-events", secret=group.user_secret, cursor=start["cursor"], jobids=[job]
    )
    assert [(one["state"], one["reason"]) for one in found["events"]] == [
        ("submitted", None),
        ("received", AGAIN),
        ("submitted", None),
        ("completed", None),
    ]
    shown = await call(service, "batch-status", secret=group.user_secret, batchid=batch["batchid"])
    assert shown["counts"]["completed"] == 1
    assert sum(shown["counts"].values()) == 1


async def test_all_attempts_count_in_the_usage(
    pool: Pool, service: httpx.AsyncClient, group: GroupOfTest, node: Node, body: Body
) -> None:
    job = await call(service, "task-submit", **body())
    await run(pool, group, node, job, NO_MEMORY)
    await run(pool, group, node, job, ended())
    usage = await call(service, "group-usage", grouptoken=group.token)
    [row] = usage["rows"]
    assert row["corehours"] == pytest.approx((5.0 + 2.0) / 3600)


async def test_a_repeated_receipt_changes_nothing(
    pool: Pool, service: httpx.AsyncClient, group: GroupOfTest, node: Node, body: Body
) -> None:
    """Its answer was lost. It comes before and after the next claim."""
    job = await call(service, "task-submit", **body())
    attempt, _ = await next_attempt(pool, group, node, job)
    await end(pool, node, attempt, NO_MEMORY)
    await end(pool, node, attempt, NO_MEMORY)
    assert await status(service, group, job) == ("received", AGAIN)
    _, grant = await next_attempt(pool, group, node, job)
    await end(pool, node, attempt, NO_MEMORY)
    assert grant.memory_mb == 4000
    assert (await status(service, group, job))[0] == "submitted"
    assert (await detail(service, group, job))["retry"]["used"] == 1


async def test_a_delayed_receipt_of_an_abandoned_attempt_counts_as_a_retry(
    pool: Pool, service: httpx.AsyncClient, group: GroupOfTest, node: Node, body: Body
) -> None:
    """Otherwise the next attempt would run out of memory as well."""
    job = await call(service, "task-submit", **body())
    attempt, _ = await next_attempt(pool, group, node, job)
    await allow_upload(pool, node, attempt)
    await abandon(pool, [Abandonment(attempt, "silent", counts=True)], Retries(3, 600.0))
    await end(pool, node, attempt, NO_MEMORY)
    assert await status(service, group, job) == ("received", AGAIN)
    assert await run(pool, group, node, job, ended()) == (4000, 60)


async def test_a_delayed_receipt_after_the_next_claim_changes_nothing(
    pool: Pool, service: httpx.AsyncClient, group: GroupOfTest, node: Node, body: Body
) -> None:
    job = await call(service, "task-submit", **body())
    attempt, _ = await next_attempt(pool, group, node, job)
    await allow_upload(pool, node, attempt)
    await abandon(pool, [Abandonment(attempt, "silent", counts=True)], RETRIES)
    _, grant = await next_attempt(pool, group, node, job)
    await end(pool, node, attempt, NO_MEMORY)
    assert grant.memory_mb == 2000
    assert (await detail(service, group, job))["retry"]["used"] == 0


async def test_a_cancelled_job_is_not_tried_again(
    pool: Pool, service: httpx.AsyncClient, group: GroupOfTest, node: Node, body: Body
) -> None:
    while_it_runs, while_it_waits = [await call(service, "task-submit", **body()) for _ in range(2)]
    attempt, _ = await next_attempt(pool, group, node, while_it_runs)
    other = AttemptId(UUID(while_it_waits), 1)
    await start_attempt(pool, node, other, "start-key-1")
    secret = {"secret": group.user_secret}
    await call(service, "task-cancel", **secret, jobid=while_it_runs)
    await end(pool, node, attempt, NO_MEMORY)
    assert (await status(service, group, while_it_runs))[0] == "cancelled"
    await end(pool, node, other, NO_MEMORY)
    answer = await call(service, "task-cancel", **secret, jobid=while_it_waits)
    assert answer["status"] == "cancelled"
    assert await claim_jobs(pool, group, 100) == []


async def test_failures_of_the_platform_are_counted_apart(
    pool: Pool, service: httpx.AsyncClient, group: GroupOfTest, node: Node, body: Body
) -> None:
    job = await call(service, "task-submit", **body(retry=2))
    trouble = Receipt(Outcome.UPLOAD_FAILED, 0)
    receipts = [trouble, NO_MEMORY, trouble, NO_MEMORY, ended()]
    had = [(await run(pool, group, node, job, receipt))[0] for receipt in receipts]
    assert had == [2000, 2000, 4000, 4000, 8000]
    assert (await status(service, group, job))[0] == "completed"
    shown = await detail(service, group, job)
    assert shown["retry"]["used"] == 2
    assert [one["memorymb"] for one in shown["attempts"]] == had
    row = await pool.fetchrow("SELECT lost_attempts FROM jobs")
    assert row["lost_attempts"] == 2


async def test_a_failure_of_the_platform_between_retries_is_told_with_the_retry(
    pool: Pool, service: httpx.AsyncClient, group: GroupOfTest, node: Node, body: Body
) -> None:
    job = await call(service, "task-submit", **body())
    await run(pool, group, node, job, NO_MEMORY)
    await run(pool, group, node, job, Receipt(Outcome.UPLOAD_FAILED, 0))
    assert await status(service, group, job) == (
        "received",
        f"{AGAIN}; the object storage did not take the output; it will run again",
    )


async def test_a_retry_that_no_machine_can_hold_waits_and_says_so(
    pool: Pool, service: httpx.AsyncClient, group: GroupOfTest, body: Body
) -> None:
    small = await make_node(pool, group, memory_mb=3000)
    job = await call(service, "task-submit", **body())
    await run(pool, group, small, job, NO_MEMORY)
    assert await claim_jobs(pool, group, 100) == []
    state, reason = await status(service, group, job)
    assert state == "received"
    assert reason.startswith(f"{AGAIN}; waiting for a node with 1 core and 4000 MB")


@pytest.mark.parametrize("path", ["task-submit", "bulk/task-submit"])
async def test_a_repeated_submission_finds_its_job_after_a_retry(
    pool: Pool, service: httpx.AsyncClient, group: GroupOfTest, node: Node, body: Body, path: str
) -> None:
    bodies = [body(), body(batchid=str(uuid4()), batchname="scan", shmmb=9, sharecontainer=True)]
    # A job without a rule in the same call has none.
    bodies.append(body(retry=None, retrymemorymb=None, diskmb=700))

    async def submitted() -> list[str]:
        if path == "task-submit":
            return [await call(service, path, **one) for one in bodies]
        answer = await service.post(f"/v22_1/{path}", json=bodies)
        return [one["data"] for one in answer.json()]

    jobs = await submitted()
    await run(pool, group, node, jobs[0], NO_MEMORY)
    assert await submitted() == jobs
    found = [await detail(service, group, job) for job in jobs]
    assert [one["memorymb"] for one in found] == [4000, 2000, 2000]
    assert [one["retry"] is not None for one in found] == [True, True, False]
    assert (found[1]["shmmb"], found[1]["sharecontainer"]) == (9, True)
    assert found[2]["diskmb"] == 700
    # A bucket still has one job: the memory of the retry is another submission.
    again = await service.post("/v22_1/task-submit", json=bodies[0] | {"memorymb": 4000})
    assert again.status_code == 409


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"retry": None}, "Parameter retrymemorymb: it says how a job is tried again"),
        (
            {"retry": None, "retrymemorymb": None, "retryon": ["exit=1"]},
            "Parameter retryon: it says how a job is tried again",
        ),
        ({"retrymemorymb": None}, "Parameter retry: nothing says after what"),
        ({"retryon": []}, "Parameter retry: nothing says after what"),
        ({"retrymemorymb": 1999}, "Parameter retrymemorymb: 1999 is less than"),
        ({"retrytimelimit": 59}, "Parameter retrytimelimit: 59 is less than"),
        ({"retrymemorymb": 2**31 - 1}, "Parameter retrymemorymb: 2147483647 is more than"),
        ({"retry": 101}, "Parameter retry:"),
        ({"retryon": ["exit=0"]}, "Parameter retryon.0:"),
        ({"retryon": ["exit=256"]}, "Parameter retryon.0:"),
    ],
)
async def test_a_rule_that_makes_no_sense_is_refused_before_anything_is_sent(
    service: httpx.AsyncClient,
    group: GroupOfTest,
    body: Body,
    changes: dict[str, Any],
    sentence: str,
) -> None:
    wrong = body(**changes)
    answer = await service.post("/v22_1/task-submit", json=wrong)
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith(sentence)
    [checked] = await call(service, "task-check", secret=group.user_secret, jobs=[wrong])
    assert checked["data"].startswith(sentence)


async def test_task_check_answers_the_rule(
    service: httpx.AsyncClient, group: GroupOfTest, body: Body
) -> None:
    """So a client notices an older service, which ignores the rule."""
    [checked] = await call(service, "task-check", secret=group.user_secret, jobs=[body()])
    assert checked["data"]["retry"] == 3


async def test_receipts_that_are_taken_together(
    pool: Pool, group: GroupOfTest, node: Node, settings: Settings
) -> None:
    """A failure with a rule is left to the rule. The others are plain ends, as before."""
    settings = settings.model_copy(update={"slot_max_s": 300.0})
    rule = RetryRule(3, frozenset({"exit=3"}))
    first = await running(pool, group, node)
    jobs = await make_jobs(pool, group, 4, retry=rule)
    plain = await make_jobs(pool, group, 1)
    attempts = [one.attempt for one in await ask(pool, node, settings, first, most=5)]
    codes = (0, 3, 4, 3, 3)
    receipts = [(attempt, ended(code)) for attempt, code in zip(attempts, codes, strict=True)]
    for _ in range(2):  # the second time its answer was lost
        assert await take(pool, node, settings, receipts=receipts) == dict.fromkeys(attempts)
    states = [(await state_of(pool, job))[0] for job in [*jobs, *plain]]
    assert states == ["completed", "received", "failed", "received", "failed"]
    used = [row["retries"] for row in await pool.fetch("SELECT retries FROM jobs ORDER BY id")]
    assert used == [None, 0, 1, 0, 1, None]
    # The same slot may run them next, as any other job.
    assert ids(await ask(pool, node, settings, first, most=2, key="later")) == [jobs[1], jobs[3]]


async def test_a_slot_keeps_its_memory_when_its_first_job_gets_more(
    pool: Pool, group: GroupOfTest, node: Node, settings: Settings
) -> None:
    settings = settings.model_copy(update={"slot_max_s": 300.0})
    rule = RetryRule(3, frozenset({"out-of-memory"}), most_memory_mb=16000)
    first = await running(pool, group, node, retry=rule)
    [larger] = await make_jobs(pool, group, 1, memory_mb=8000)
    [alike] = await make_jobs(pool, group, 1)
    await take(pool, node, settings, receipts=[(first, NO_MEMORY)])
    assert (await state_of(pool, first.job_id))[0] == "received"
    # Not the job of 8000 MB, and not the first one again, which asks for 8000 MB too.
    assert ids(await ask(pool, node, settings, first, most=5)) == [alike]
    claimed = await claim_jobs(pool, group, 10)
    assert {row["job_id"] for row in claimed} == {first.job_id, larger}
    assert {row["nomad_memory_mb"] for row in claimed} == {8000}
    # Also while its job runs with more.
    [later] = await make_jobs(pool, group, 1)
    assert ids(await ask(pool, node, settings, first, most=5, key=f"{KEY}-2")) == [later]


async def test_a_retry_takes_its_turn(pool: Pool, group: GroupOfTest, node: Node) -> None:
    """It keeps its place by age among the jobs of its user, and takes no turn of another user."""
    rule = RetryRule(3, frozenset({"exit=any"}))
    failed = await dispatched(pool, group, priority=0, retry=rule)
    await start_attempt(pool, node, failed, "start-key-1")
    [younger] = await make_jobs(pool, group, 1)
    in_flight = await dispatched(pool, group)
    of_admin = await make_jobs(pool, group, 2, secret=group.admin_secret)
    await end(pool, node, failed, ended(1))
    order = [(await claim_jobs(pool, group, 1))[0]["job_id"] for _ in range(4)]
    # The user has a job in flight and the admin none.
    assert order == [of_admin[0], failed.job_id, of_admin[1], younger]
    assert in_flight.job_id not in order
