"""Slots: which job a slot runs next, and how a node gets it."""

from __future__ import annotations

import asyncio
import random

import asyncpg
import httpx
import pytest
from service_world import (
    GroupOfTest,
    call,
    claim_jobs,
    holding,
    make_jobs,
    make_node,
    make_node_with_token,
    running_service,
    state_of,
    until_blocked,
)
from slot_world import KEY, ask, dispatched, ended, ids, place, running, take

from leruli_queue.access.authenticate import Node
from leruli_queue.jobs.asking_slots import SlotRequest
from leruli_queue.jobs.attempts import AttemptId, StaleAttemptError, allow_upload, start_attempt
from leruli_queue.jobs.outcomes import Outcome, Receipt
from leruli_queue.jobs.slots import grant_next
from leruli_queue.settings import Settings
from leruli_queue.store.pool import Pool


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"slot_max_s": 300.0})


@pytest.fixture
async def node(pool: Pool, group: GroupOfTest) -> Node:
    return await make_node(pool, group)


async def test_a_slot_runs_the_oldest_job_with_its_resources_next(
    pool: Pool, group: GroupOfTest, node: Node, settings: Settings
) -> None:
    first = await running(pool, group, node)
    await make_jobs(pool, group, 1, cores=2)
    await make_jobs(pool, group, 1, memory_mb=3999)
    alike = await make_jobs(pool, group, 3)
    [granted] = await ask(pool, node, settings, first)
    assert granted.attempt == AttemptId(alike[0], 1)
    assert (granted.grant.cores, granted.grant.memory_mb, granted.grant.code) == (1, 4000, "psi4")
    assert (await state_of(pool, alike[0]))[0] == "submitted"
    # It has the slot's place in Nomad, and its lease to upload.
    row = await pool.fetchrow("SELECT * FROM attempts WHERE job_id = $1", alike[0])
    assert (row["nomad_job_id"], row["allocation_id"]) == (
        f"p/dispatch-{first.job_id}",
        str(first.job_id),
    )
    assert (row["node_id"], row["slot_job"], row["slot_number"]) == (node.id, first.job_id, 1)
    assert row["upload_at"] is not None
    await allow_upload(pool, node, granted.attempt)


async def test_the_same_key_is_granted_the_same_attempts(
    pool: Pool, group: GroupOfTest, node: Node, settings: Settings
) -> None:
    """The answer was lost."""
    first = await running(pool, group, node)
    await make_jobs(pool, group, 5)
    granted = await ask(pool, node, settings, first, most=2)
    assert len(granted) == 2
    assert await ask(pool, node, settings, first, most=2) == granted
    others = await ask(pool, node, settings, first, most=2, key="another-key")
    assert not {*ids(others)} & {*ids(granted)}


async def test_an_attempt_of_a_slot_is_started_by_nobody_else(
    pool: Pool, group: GroupOfTest, node: Node, settings: Settings
) -> None:
    first = await running(pool, group, node)
    await make_jobs(pool, group, 1)
    [granted] = await ask(pool, node, settings, first)
    with pytest.raises(StaleAttemptError, match="started before"):
        await start_attempt(pool, node, granted.attempt, "start-key-2")


async def test_users_take_turns_in_slots(
    pool: Pool, group: GroupOfTest, node: Node, settings: Settings
) -> None:
    first = await running(pool, group, node)
    of_ada = await make_jobs(pool, group, 4)
    of_admin = await make_jobs(pool, group, 4, secret=group.admin_secret)
    granted = ids(await ask(pool, node, settings, first, most=3))
    # Ada has one in flight, the slot's first, and the admin none.
    assert granted == [of_admin[0], *sorted([of_ada[0], of_admin[1]])]


async def test_priority_comes_before_age(
    pool: Pool, group: GroupOfTest, node: Node, settings: Settings
) -> None:
    first = await running(pool, group, node)
    await make_jobs(pool, group, 1)
    [urgent] = await make_jobs(pool, group, 1, priority=5)
    assert ids(await ask(pool, node, settings, first)) == [urgent]


async def test_a_slot_gets_jobs_whose_container_it_can_share(
    pool: Pool, group: GroupOfTest, node: Node, settings: Settings
) -> None:
    slots = [await running(pool, group, node, code=code) for code in ("psi4", "orca")]
    for code in ("orca", "psi4", "orca", "psi4"):
        await make_jobs(pool, group, 1, code=code, share_container=True)
    requests = [SlotRequest(slot, f"{KEY}-{slot.job_id}", 2) for slot in slots]
    async with pool.acquire() as connection:
        answers = await grant_next(connection, node, requests, settings)
    codes = [[granted.grant.code for granted in answers[slot]] for slot in slots]
    assert codes == [["psi4", "psi4"], ["orca", "orca"]]


async def test_jobs_that_share_no_container_take_turns_in_the_slots(
    pool: Pool, group: GroupOfTest, node: Node, settings: Settings
) -> None:
    slots = [await running(pool, group, node, code=code) for code in ("psi4", "orca")]
    jobs = [(await make_jobs(pool, group, 1, code="orca"))[0] for _ in range(3)]
    requests = [SlotRequest(slot, f"{KEY}-{slot.job_id}", 2) for slot in slots]
    async with pool.acquire() as connection:
        answers = await grant_next(connection, node, requests, settings)
    ran = [[granted.attempt.job_id for granted in answers[slot]] for slot in slots]
    assert ran == [[jobs[0], jobs[2]], [jobs[1]]]


async def test_attempts_are_granted_ahead_while_many_jobs_wait(
    pool: Pool, group: GroupOfTest, node: Node, settings: Settings
) -> None:
    """The last 32 jobs are left for slots that are free sooner."""
    first = await running(pool, group, node)
    await make_jobs(pool, group, 38)
    granted = [len(await ask(pool, node, settings, first, ahead=3, key=f"{n}")) for n in range(4)]
    assert granted == [4, 2, 1, 1]


async def test_each_slot_is_granted_one_attempt_before_any_is_granted_two(
    pool: Pool, group: GroupOfTest, node: Node, settings: Settings
) -> None:
    slots = [await running(pool, group, node) for _ in range(3)]
    await make_jobs(pool, group, 36)
    requests = [
        SlotRequest(slot, f"{KEY}-{slot.job_id}", 1, ahead)
        for slot, ahead in zip(slots, (3, 0, 0), strict=True)
    ]
    async with pool.acquire() as connection:
        answers = await grant_next(connection, node, requests, settings)
    assert [len(answers[slot]) for slot in slots] == [2, 1, 1]


async def test_no_slot_is_left_without_for_a_container_that_fits_better(
    pool: Pool, group: GroupOfTest, node: Node, settings: Settings
) -> None:
    """A slot that is granted none is over."""
    slots = [await running(pool, group, node, code=code) for code in ("psi4", "orca")]
    await make_jobs(pool, group, 36, code="psi4", share_container=True)
    requests = [SlotRequest(slot, f"{KEY}-{slot.job_id}", 1, 3) for slot in slots]
    async with pool.acquire() as connection:
        answers = await grant_next(connection, node, requests, settings)
    assert [len(answers[slot]) for slot in slots] == [2, 2]


async def test_jobs_with_other_memory_are_not_granted_ahead(
    pool: Pool, group: GroupOfTest, node: Node, settings: Settings
) -> None:
    """A retry rule doubled the memory of one job, and that of the slot's own first job."""
    first = await running(pool, group, node)
    jobs = await make_jobs(pool, group, 40)
    await pool.execute("UPDATE jobs SET memory_mb = 8000 WHERE id = $1", jobs[1])
    await pool.execute("UPDATE attempts SET memory_mb = 4000 WHERE job_id = $1", first.job_id)
    await pool.execute("UPDATE jobs SET memory_mb = 8000 WHERE id = $1", first.job_id)
    granted = await ask(pool, node, settings, first, ahead=3)
    assert ids(granted) == [jobs[0], *jobs[2:5]]
    assert {one.grant.memory_mb for one in granted} == {4000}


async def test_nothing_is_granted_ahead_while_a_job_waits_in_nomad(
    pool: Pool, group: GroupOfTest, node: Node, settings: Settings
) -> None:
    """A slot that ends for it ends without six jobs before that."""
    first = await running(pool, group, node)
    await make_jobs(pool, group, 60)
    waiting = await dispatched(pool, group, cores=2, ago_s=5.0)
    assert len(await ask(pool, node, settings, first, ahead=3)) == 1
    await place(pool, waiting, node)
    assert len(await ask(pool, node, settings, first, ahead=3, key="later")) == 4


async def test_many_nodes_at_once_are_granted_one_attempt_and_more(
    pool: Pool, group: GroupOfTest, settings: Settings
) -> None:
    """None is left without: a slot without a grant is over."""
    nodes = [await make_node(pool, group) for _ in range(6)]
    slots = [[await running(pool, group, node) for _ in range(4)] for node in nodes]
    await make_jobs(pool, group, 200)
    async with holding(settings, "LOCK TABLE attempts IN SHARE MODE"):
        # Each call has chosen its jobs before any call is through.
        asking = [
            asyncio.create_task(ask(pool, node, settings, *of_node, ahead=3))
            for node, of_node in zip(nodes, slots, strict=True)
        ]
        await until_blocked(pool, len(nodes))
    answers = await asyncio.gather(*asking)
    granted = [job_id for answer in answers for job_id in ids(answer)]
    assert len(granted) == len({*granted})
    assert all(len(answer) >= 4 for answer in answers)


async def test_many_nodes_at_once_are_granted_different_jobs(
    pool: Pool, group: GroupOfTest, settings: Settings
) -> None:
    nodes = [await make_node(pool, group) for _ in range(6)]
    slots = [await running(pool, group, node) for node in nodes]
    await make_jobs(pool, group, 24)
    answers = await asyncio.gather(
        *(ask(pool, node, settings, slot, most=4) for node, slot in zip(nodes, slots, strict=True))
    )
    granted = [job_id for answer in answers for job_id in ids(answer)]
    assert len(granted) == len({*granted}) == 24


async def test_a_job_that_failed_before_is_left_to_the_feeder(
    pool: Pool, group: GroupOfTest, node: Node, settings: Settings
) -> None:
    first = await running(pool, group, node)
    failed, fine = await make_jobs(pool, group, 2)
    await pool.execute("UPDATE jobs SET lost_attempts = 1 WHERE id = $1", failed)
    assert ids(await ask(pool, node, settings, first, most=2)) == [fine]


async def test_receipts_are_taken_together(
    pool: Pool, group: GroupOfTest, node: Node, settings: Settings
) -> None:
    first = await running(pool, group, node)
    await make_jobs(pool, group, 4)
    attempts = [granted.attempt for granted in await ask(pool, node, settings, first, most=4)]
    receipts = [
        (attempt, ended(code)) for attempt, code in zip(attempts, (0, 3, 0, 0), strict=True)
    ]
    receipts[3] = (attempts[3], Receipt(Outcome.TIME_LIMIT))
    assert await take(pool, node, settings, receipts=receipts) == dict.fromkeys(attempts)
    states = [await state_of(pool, attempt.job_id) for attempt in attempts]
    assert [state for state, _ in states] == ["completed", "failed", "completed", "failed"]
    assert states[1][1] == "its command ended with exit code 3"
    assert "time limit" in str(states[3][1])
    row = await pool.fetchrow("SELECT * FROM attempts WHERE job_id = $1", attempts[0].job_id)
    assert (row["outcome"], row["exit_code"], row["uploaded_files"]) == ("ended", 0, 3)
    # Again, after a lost answer: nothing changes.
    again = [(attempt, ended(9)) for attempt in attempts]
    assert await take(pool, node, settings, receipts=again) == dict.fromkeys(attempts)
    assert [await state_of(pool, attempt.job_id) for attempt in attempts] == states


async def test_together_a_receipt_does_what_it_does_alone(
    pool: Pool, group: GroupOfTest, node: Node, settings: Settings
) -> None:
    """A cancelled one, one of another node, one that is not current, and a plain one."""
    first = await running(pool, group, node)
    await make_jobs(pool, group, 4)
    attempts = [granted.attempt for granted in await ask(pool, node, settings, first, most=4)]
    cancelled, other, old, plain = attempts
    await pool.execute(
        "UPDATE jobs SET cancel_requested_at = now() WHERE id = $1", cancelled.job_id
    )
    stranger = await make_node(pool, group)
    for change in (
        "UPDATE jobs SET node_id = $1 WHERE id = $2",
        "UPDATE attempts SET node_id = $1 WHERE job_id = $2",
    ):
        await pool.execute(change, stranger.id, other.job_id)
    await pool.execute("UPDATE jobs SET attempt = 2 WHERE id = $1", old.job_id)
    receipts = [(attempt, ended(1)) for attempt in attempts]
    answers = await take(pool, node, settings, receipts=receipts)
    assert str(answers[other]) == "There is no such attempt for this node."
    assert (answers[cancelled], answers[old], answers[plain]) == (None, None, None)
    states = [(await state_of(pool, attempt.job_id))[0] for attempt in attempts]
    assert states == ["cancelled", "submitted", "submitted", "failed"]


async def test_usage_counts_from_the_start_of_the_command(
    pool: Pool, group: GroupOfTest, node: Node, settings: Settings
) -> None:
    """And not from the grant, after which the job waited for the one before it."""
    first = await running(pool, group, node)
    await make_jobs(pool, group, 2)
    attempts = [granted.attempt for granted in await ask(pool, node, settings, first, most=2)]
    ids = [attempt.job_id for attempt in attempts]
    await pool.execute(
        "UPDATE jobs SET started_at = now() - interval '60 s' WHERE id = ANY($1)", ids
    )
    await take(pool, node, settings, receipts=[(attempt, ended()) for attempt in attempts])
    ran = await pool.fetch(
        "SELECT extract(epoch FROM ended_at - running_at)::int FROM jobs WHERE id = ANY($1)", ids
    )
    assert [row[0] for row in ran] == [2, 2]


async def test_what_was_granted_ahead_can_be_returned(
    pool: Pool, group: GroupOfTest, node: Node, settings: Settings
) -> None:
    first = await running(pool, group, node)
    await make_jobs(pool, group, 2)
    begun, ahead = [g.attempt for g in await ask(pool, node, settings, first, most=2)]
    await take(pool, node, settings, running=[begun], returned=[ahead])
    assert (await state_of(pool, begun.job_id))[0] == "running"
    assert await state_of(pool, ahead.job_id) == ("received", None)
    row = await pool.fetchrow("SELECT * FROM jobs WHERE id = $1", ahead.job_id)
    assert (row["lost_attempts"], row["started_at"], row["not_before"]) == (0, None, None)
    # It runs elsewhere, and what its first node still says of it changes nothing.
    again = await ask(pool, node, settings, first, key="later")
    assert [granted.attempt for granted in again] == [AttemptId(ahead.job_id, 2)]
    await take(pool, node, settings, receipts=[(ahead, ended())], returned=[ahead, begun])
    assert (await state_of(pool, ahead.job_id))[0] == "submitted"
    assert (await state_of(pool, begun.job_id))[0] == "running"


async def test_a_job_that_was_cancelled_before_it_is_returned(
    pool: Pool, group: GroupOfTest, node: Node, settings: Settings
) -> None:
    first = await running(pool, group, node)
    await make_jobs(pool, group, 1)
    [ahead] = [g.attempt for g in await ask(pool, node, settings, first)]
    await pool.execute("UPDATE jobs SET cancel_requested_at = now() WHERE id = $1", ahead.job_id)
    await take(pool, node, settings, returned=[ahead])
    assert await state_of(pool, ahead.job_id) == ("cancelled", "cancelled before it ran")


async def test_an_attempt_that_nomad_placed_cannot_be_returned(
    pool: Pool, group: GroupOfTest, node: Node, settings: Settings
) -> None:
    first = await running(pool, group, node)
    await take(pool, node, settings, returned=[first], running=[first])
    assert (await state_of(pool, first.job_id))[0] == "submitted"


async def test_the_call(service: httpx.AsyncClient, pool: Pool, group: GroupOfTest) -> None:
    node, token = await make_node_with_token(pool, group)
    first = await running(pool, group, node)
    await make_jobs(pool, group, 60)
    slot = {"jobid": str(first.job_id), "attempt": 1}
    body = {
        "nodetoken": token,
        "receipts": [{**slot, "outcome": "ended", "exitcode": 0}],
        "slots": [{**slot, "key": "key-of-the-call", "most": 2}],
    }
    answer = (await service.post("/v22_1/slot-next", json=body)).json()
    assert answer["receipts"] == [{**slot, "stale": None}]
    [granted] = answer["slots"]
    assert {key: granted[key] for key in slot} == slot
    assert [attempt["attempt"] for attempt in granted["next"]] == [1, 1]
    assert granted["next"][0]["memorymb"] == 4000
    assert not granted["next"][0]["sharecontainer"]
    assert (await service.post("/v22_1/slot-next", json=body)).json() == answer
    assert (await state_of(pool, first.job_id))[0] == "completed"
    # An older agent does not say how many more it takes.
    more = {**body, "slots": [{**slot, "key": "key-of-the-next-call", "most": 1, "ahead": 3}]}
    [granted] = (await service.post("/v22_1/slot-next", json=more)).json()["slots"]
    assert len(granted["next"]) == 4


async def test_the_order_is_that_of_the_feeder(
    pool: Pool, group: GroupOfTest, node: Node, settings: Settings
) -> None:
    first = await running(pool, group, node)
    chosen = random.Random(19)  # noqa: S311 - no secret
    for _ in range(30):
        secret = chosen.choice([group.user_secret, group.admin_secret])
        await make_jobs(pool, group, 1, secret=secret, priority=chosen.choice([0, 0, 3]))
    await pool.execute("CREATE TABLE before AS SELECT * FROM jobs WHERE state = 'received'")
    in_slots = [ids(await ask(pool, node, settings, first, key=f"{n}"))[0] for n in range(30)]
    await pool.execute("DELETE FROM attempts WHERE slot_job IS NOT NULL")
    await pool.execute("DELETE FROM jobs WHERE id IN (SELECT id FROM before)")
    await pool.execute("INSERT INTO jobs SELECT * FROM before")
    by_feeder = [(await claim_jobs(pool, group, 1))[0]["job_id"] for _ in range(30)]
    assert in_slots == by_feeder


async def test_postgresql_is_killed_while_it_grants(
    pool: Pool, group: GroupOfTest, node: Node, settings: Settings
) -> None:
    """Nothing is granted, or all of it: the same question is asked again."""
    first = await running(pool, group, node)
    await make_jobs(pool, group, 3)
    async with holding(settings, "LOCK TABLE attempts IN SHARE MODE"):
        asking = asyncio.create_task(ask(pool, node, settings, first, most=2))
        await until_blocked(pool, 1)
        await pool.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        )
        with pytest.raises(asyncpg.PostgresError):
            await asking
    count = "SELECT count(*) FROM jobs WHERE state = 'submitted' AND name <> 'first'"
    assert await pool.fetchval(count) == 0
    assert len(await ask(pool, node, settings, first, most=2)) == 2
    assert await pool.fetchval(count) == 2


async def test_slots_that_ask_together_share_their_containers_again(
    pool: Pool, group: GroupOfTest, node: Node, settings: Settings
) -> None:
    """The node names the job whose container a slot keeps. A first attempt's may be long gone."""
    slots = [await running(pool, group, node) for _ in range(2)]
    [orca] = await make_jobs(pool, group, 1, code="orca", share_container=True)
    await ask(pool, node, settings, slots[1], key="before")
    [again] = await make_jobs(pool, group, 1, code="orca", share_container=True)
    [psi4] = await make_jobs(pool, group, 1, share_container=True)
    requests = [
        SlotRequest(slots[0], f"{KEY}-0", 1),
        SlotRequest(slots[1], f"{KEY}-1", 1, container=orca),
    ]
    for _ in range(2):  # The same after a lost answer.
        async with pool.acquire() as connection:
            answers = await grant_next(connection, node, requests, settings)
        assert [ids(answers[slot]) for slot in slots] == [[psi4], [again]]


async def test_an_older_agent_runs_one_attempt_in_a_slot(
    settings: Settings, pool: Pool, group: GroupOfTest
) -> None:
    """It knows neither slot-next nor the fields that tell of it."""
    _, token = await make_node_with_token(pool, group)
    [job_id] = await make_jobs(pool, group, 1)
    await claim_jobs(pool, group, 1)
    about = {"nodetoken": token, "jobid": str(job_id), "attempt": 1}
    async with running_service(settings) as service:
        answer = await call(service, "attempt-start", **about, startkey="start-key-1")
        assert (answer["goeson"], answer["silenceseconds"]) == (True, None)
        await call(service, "attempt-upload", **about)
        await call(service, "attempt-end", **about, outcome="ended", exitcode=0)
    assert (await state_of(pool, job_id))[0] == "completed"
