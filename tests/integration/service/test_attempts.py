from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from service_world import (
    GroupOfTest,
    claim_jobs,
    make_group,
    make_jobs,
    make_node,
    make_user,
    state_of,
)

from leruli_queue.access.authenticate import Node
from leruli_queue.dispatch.notes import note_observations
from leruli_queue.dispatch.observations import Observation
from leruli_queue.groups.compute_secret import rotate_compute_secret
from leruli_queue.jobs.abandon import Abandonment, abandon
from leruli_queue.jobs.attempts import AttemptId, StaleAttemptError, allow_upload, start_attempt
from leruli_queue.jobs.cancel import cancel_job
from leruli_queue.jobs.outcomes import BUCKET_WENT, Outcome, Receipt
from leruli_queue.jobs.receipts import end_attempt
from leruli_queue.jobs.retries import Retries
from leruli_queue.jobs.states import JobState
from leruli_queue.store.pool import Pool
from leruli_queue.store.queries import queries

KEY = "start-key-1"


async def submitted(pool: Pool, group: GroupOfTest, **changes: Any) -> AttemptId:
    """A job whose first attempt is claimed."""
    [job_id] = await make_jobs(pool, group, 1, **changes)
    return await claimed_again(pool, group, job_id)


async def claimed_again(pool: Pool, group: GroupOfTest, job_id: UUID) -> AttemptId:
    found = await claim_jobs(pool, group, 100)
    [number] = [row["number"] for row in found if row["job_id"] == job_id]
    return AttemptId(job_id, number)


@pytest.fixture
async def node(pool: Pool, group: GroupOfTest) -> Node:
    return await make_node(pool, group)


@pytest.fixture
async def attempt(pool: Pool, group: GroupOfTest, node: Node) -> AttemptId:
    return await submitted(pool, group)


RETRIES = Retries(2, 0.0)


async def end(
    pool: Pool, node: Node, attempt: AttemptId, receipt: Receipt, retries: Retries = RETRIES
) -> object:
    async with pool.acquire() as connection:
        return await end_attempt(connection, node, attempt, receipt, retries)


async def test_a_start_is_granted_once(
    pool: Pool, group: GroupOfTest, node: Node, attempt: AttemptId
) -> None:
    grant = await start_attempt(pool, node, attempt, KEY)
    assert (grant.code, grant.version, grant.cores) == ("psi4", "1.3.2", 1)
    assert (grant.memory_mb, grant.time_limit_s) == (4000, 3600)
    assert await start_attempt(pool, node, attempt, KEY) == grant  # the answer was lost
    with pytest.raises(StaleAttemptError, match="started before"):
        await start_attempt(pool, node, attempt, "start-key-2")
    with pytest.raises(StaleAttemptError, match="started before"):
        await start_attempt(pool, await make_node(pool, group), attempt, KEY)


async def test_a_job_whose_bucket_was_purged_while_it_ran_does_not_run_again(
    pool: Pool, node: Node, attempt: AttemptId
) -> None:
    """D16: the reason said "it will run again", and 39 s later the job had failed."""
    await start_attempt(pool, node, attempt, KEY)
    # The real agent's message: tests/integration/node/test_purged.py.
    receipt = Receipt(Outcome.UPLOAD_FAILED, 0, BUCKET_WENT)
    await end(pool, node, attempt, receipt)
    state, reason = await state_of(pool, attempt.job_id)
    assert state == "failed"
    assert reason == (
        "its bucket is not there any more: it was purged or deleted while the job ran, so there "
        "are no results"
    )


async def test_one_of_many_concurrent_starts_wins(
    pool: Pool, node: Node, attempt: AttemptId
) -> None:
    answers = await asyncio.gather(
        *(start_attempt(pool, node, attempt, f"start-key-{n}") for n in range(8)),
        return_exceptions=True,
    )
    assert sum(isinstance(answer, StaleAttemptError) for answer in answers) == 7


async def test_a_concurrent_start_and_cancellation_agree(pool: Pool, group: GroupOfTest) -> None:
    node = await make_node(pool, group)
    user = await make_user(pool, group)

    async def cancel(job_id: UUID) -> JobState:
        async with pool.acquire() as connection:
            return (await cancel_job(connection, user, job_id)).state

    for _ in range(20):
        attempt = await submitted(pool, group)
        started, state = await asyncio.gather(
            start_attempt(pool, node, attempt, KEY),
            cancel(attempt.job_id),
            return_exceptions=True,
        )
        if isinstance(started, StaleAttemptError):
            assert state is JobState.CANCELLED
        else:
            assert state is JobState.SUBMITTED


async def test_a_node_that_left_gets_no_start_grant(
    pool: Pool, node: Node, attempt: AttemptId
) -> None:
    await queries.node_leaves(pool, node_id=node.id)
    with pytest.raises(StaleAttemptError, match="has left"):
        await start_attempt(pool, node, attempt, KEY)


async def test_an_upload_lease_waits_while_the_attempt_is_being_abandoned(
    pool: Pool, node: Node, attempt: AttemptId
) -> None:
    await start_attempt(pool, node, attempt, KEY)
    await allow_upload(pool, node, attempt)
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await abandon(connection, [Abandonment(attempt, "silent", counts=True)], Retries(3, 0.0))
        asking = asyncio.create_task(allow_upload(pool, node, attempt))
        await asyncio.sleep(0.3)
        assert not asking.done()
        await transaction.commit()
    with pytest.raises(StaleAttemptError):
        await asking


async def test_one_of_two_concurrent_equal_receipts_counts(
    pool: Pool, node: Node, attempt: AttemptId
) -> None:
    await start_attempt(pool, node, attempt, KEY)
    receipt = Receipt(Outcome.NODE_TROUBLE)
    verdicts = await asyncio.gather(*(end(pool, node, attempt, receipt) for _ in range(4)))
    assert sum(verdict is not None for verdict in verdicts) == 1
    assert await pool.fetchval("SELECT lost_attempts FROM jobs") == 1


async def test_a_late_receipt_of_a_counted_attempt_does_not_count_again(
    pool: Pool, node: Node, attempt: AttemptId
) -> None:
    await start_attempt(pool, node, attempt, KEY)
    await allow_upload(pool, node, attempt)
    await abandon(pool, [Abandonment(attempt, "no receipt", counts=True)], Retries(2, 0.0))
    await end(pool, node, attempt, Receipt(Outcome.UPLOAD_FAILED))
    assert await state_of(pool, attempt.job_id) == ("received", "no receipt; it will run again")


async def test_a_command_that_ends_itself_with_term_does_not_run_for_ever(
    pool: Pool, group: GroupOfTest, node: Node, attempt: AttemptId
) -> None:
    for current in (attempt, None):
        current = current or await claimed_again(pool, group, attempt.job_id)
        await start_attempt(pool, node, current, KEY)
        await end(pool, node, current, Receipt(Outcome.STOPPED, 143))
    assert await state_of(pool, attempt.job_id) == (
        "failed",
        "it was ended by a TERM signal from outside; given up after 2 attempts",
    )


async def test_the_retry_delay_grows_with_each_failure_of_the_platform(
    pool: Pool, group: GroupOfTest, node: Node, attempt: AttemptId
) -> None:
    retries = Retries(10, 600.0)
    await start_attempt(pool, node, attempt, KEY)
    await end(pool, node, attempt, Receipt(Outcome.NODE_TROUBLE), retries)
    waits = "SELECT extract(epoch FROM not_before - now())::float FROM jobs"
    assert 500 < await pool.fetchval(waits) <= 600
    assert await claim_jobs(pool, group, 10) == []
    await pool.execute("UPDATE jobs SET not_before = now()")
    second = await claimed_again(pool, group, attempt.job_id)
    await abandon(pool, [Abandonment(second, "lost", counts=True)], retries)
    assert 1100 < await pool.fetchval(waits) <= 1200


async def test_abandoned_unstarted_attempts_do_not_lengthen_a_later_delay(
    pool: Pool, group: GroupOfTest, node: Node, attempt: AttemptId
) -> None:
    """M12: after ten changes of the group's nodes, the first lost attempt delayed a job by 1 h."""
    retries = Retries(10, 30.0)
    waits = "SELECT extract(epoch FROM not_before - now())::float FROM jobs"
    for _ in range(10):
        await abandon(pool, [Abandonment.of_unstarted(attempt, "the nodes changed")], retries)
        attempt = await claimed_again(pool, group, attempt.job_id)
    for longest_s in (30, 60, 120):
        await abandon(pool, [Abandonment(attempt, "not begun", counts=False)], retries)
        assert longest_s / 2 < await pool.fetchval(waits) <= longest_s
        await pool.execute("UPDATE jobs SET not_before = now()")
        attempt = await claimed_again(pool, group, attempt.job_id)
    # Lost attempts have their own counter. A start ends the row of attempts that did not start.
    await start_attempt(pool, node, attempt, KEY)
    await abandon(pool, [Abandonment(attempt, "lost", counts=True)], retries)
    assert 15 < await pool.fetchval(waits) <= 30
    await pool.execute("UPDATE jobs SET not_before = now()")
    attempt = await claimed_again(pool, group, attempt.job_id)
    await abandon(pool, [Abandonment(attempt, "not begun", counts=False)], retries)
    assert 15 < await pool.fetchval(waits) <= 30


async def test_an_attempt_that_started_meanwhile_is_not_abandoned(
    pool: Pool, node: Node, attempt: AttemptId
) -> None:
    await start_attempt(pool, node, attempt, KEY)
    loss = Abandonment(attempt, "the nodes changed", counts=False, only_unstarted=True)
    await abandon(pool, [loss], Retries(3, 0.0))
    assert (await state_of(pool, attempt.job_id))[0] == "submitted"


async def test_after_the_start_only_the_allocation_on_that_node_counts(
    pool: Pool, group: GroupOfTest, node: Node, attempt: AttemptId
) -> None:
    other = await make_node(pool, group)
    await start_attempt(pool, node, attempt, KEY)

    def seen(where: Node, *, dead: bool, index: int) -> Observation:
        return Observation(attempt, where.id, f"a{index}", index, None, dead=dead, silent=False)

    dead = "SELECT allocation_dead_at IS NOT NULL FROM attempts"
    alive_here, dead_there = seen(node, dead=False, index=2), seen(other, dead=True, index=1)
    for order in ([alive_here, dead_there], [dead_there, alive_here], [dead_there]):
        await note_observations(pool, order)
        assert await pool.fetchval(dead) is False
    await note_observations(pool, [seen(node, dead=True, index=2)])
    assert await pool.fetchval(dead) is True


@pytest.mark.parametrize("reported", [datetime(year, 1, 1, tzinfo=UTC) for year in (2, 2020, 9999)])
async def test_a_command_begins_after_its_start_grant_and_not_in_the_future(
    pool: Pool, node: Node, attempt: AttemptId, reported: datetime
) -> None:
    """Any node can report any allocation to Nomad, so only a FAKE observation shows the case."""
    await start_attempt(pool, node, attempt, KEY)
    await pool.execute("UPDATE jobs SET started_at = now() - interval '1 hour'")
    await pool.execute("UPDATE attempts SET started_at = now() - interval '1 hour'")
    seen = Observation(attempt, node.id, "a1", 1, reported, dead=False, silent=False)
    await note_observations(pool, [seen])
    for table in ("jobs", "attempts"):
        noted = await pool.fetchrow(
            f"SELECT running_at, started_at, now() FROM {table}"  # noqa: S608
        )
        assert noted["started_at"] <= noted["running_at"] <= noted["now"]
    assert (await state_of(pool, attempt.job_id))[0] == "running"


async def test_a_node_of_another_group_learns_nothing(pool: Pool, attempt: AttemptId) -> None:
    other = await make_group(pool, "physicists")
    foreign = await make_node(pool, other)
    for refused in (
        start_attempt(pool, foreign, attempt, KEY),
        end(pool, foreign, attempt, Receipt(Outcome.ENDED, 0)),
    ):
        with pytest.raises(StaleAttemptError, match="There is no such attempt for this node"):
            await refused
    with pytest.raises(StaleAttemptError):
        await allow_upload(pool, foreign, attempt)
    assert (await state_of(pool, attempt.job_id))[0] == "submitted"


async def test_a_node_with_a_rotated_secret_gets_no_start_grant(
    pool: Pool, group: GroupOfTest, node: Node, attempt: AttemptId
) -> None:
    running = await submitted(pool, group)
    await start_attempt(pool, node, running, KEY)
    async with pool.acquire() as connection:
        await rotate_compute_secret(connection, group.id)
    with pytest.raises(StaleAttemptError, match="rotated"):
        await start_attempt(pool, node, attempt, KEY)
    await allow_upload(pool, node, running)  # a running attempt may still end
    await end(pool, node, running, Receipt(Outcome.ENDED, 0))
    assert (await state_of(pool, running.job_id))[0] == "completed"


@pytest.mark.parametrize(
    ("outcome", "exit_code", "state"),
    [
        (Outcome.ENDED, 0, "completed"),
        (Outcome.ENDED, 3, "failed"),
        (Outcome.OUT_OF_MEMORY, 137, "failed"),
        (Outcome.NODE_TROUBLE, None, "received"),
        (Outcome.STOPPED, 143, "received"),
    ],
)
async def test_the_receipt_decides_and_decides_once(
    pool: Pool, node: Node, attempt: AttemptId, outcome: Outcome, exit_code: int | None, state: str
) -> None:
    await start_attempt(pool, node, attempt, KEY)
    await allow_upload(pool, node, attempt)
    receipt = Receipt(outcome, exit_code, wall_s=1.5, uploaded_bytes=10)
    verdict = await end(pool, node, attempt, receipt)
    assert verdict is not None
    before = await state_of(pool, attempt.job_id)
    assert before[0] == state
    assert await end(pool, node, attempt, Receipt(Outcome.ENDED, 0)) is None  # sent again
    assert await state_of(pool, attempt.job_id) == before
    row = await pool.fetchrow("SELECT * FROM attempts WHERE job_id = $1", attempt.job_id)
    assert (row["outcome"], row["exit_code"], row["uploaded_bytes"]) == (outcome, exit_code, 10)


async def test_a_receipt_may_arrive_before_the_event_that_says_running(
    pool: Pool, node: Node, attempt: AttemptId
) -> None:
    await start_attempt(pool, node, attempt, KEY)
    await end(pool, node, attempt, Receipt(Outcome.ENDED, 0))
    await queries.note_running(
        pool,
        job_ids=[attempt.job_id],
        numbers=[attempt.number],
        node_ids=[node.id],
        times=[await pool.fetchval("SELECT now()")],
    )
    assert (await state_of(pool, attempt.job_id))[0] == "completed"


async def test_an_abandoned_attempt_does_not_disturb_the_next_one(
    pool: Pool, group: GroupOfTest, node: Node, attempt: AttemptId
) -> None:
    await start_attempt(pool, node, attempt, KEY)
    await abandon(
        pool, [Abandonment(attempt, "its node does not answer", counts=True)], Retries(3, 0.0)
    )
    assert await state_of(pool, attempt.job_id) == (
        "received",
        "its node does not answer; it will run again",
    )
    second = await claimed_again(pool, group, attempt.job_id)
    assert second.number == 2
    successor = await make_node(pool, group)
    await start_attempt(pool, successor, second, KEY)
    # The first node is back.
    with pytest.raises(StaleAttemptError):
        await start_attempt(pool, node, attempt, KEY)
    with pytest.raises(StaleAttemptError):
        await allow_upload(pool, node, attempt)
    await end(pool, node, attempt, Receipt(Outcome.ENDED, 3))
    assert (await state_of(pool, attempt.job_id))[0] == "submitted"
    await end(pool, successor, second, Receipt(Outcome.ENDED, 0))
    assert (await state_of(pool, attempt.job_id))[0] == "completed"


async def test_a_late_receipt_counts_if_its_attempt_had_an_upload_lease(
    pool: Pool, group: GroupOfTest, node: Node
) -> None:
    uploaded, not_uploaded = await submitted(pool, group), await submitted(pool, group)
    for attempt in (uploaded, not_uploaded):
        await start_attempt(pool, node, attempt, KEY)
    await allow_upload(pool, node, uploaded)
    losses = [
        Abandonment(attempt, "no receipt", counts=True) for attempt in (uploaded, not_uploaded)
    ]
    await abandon(pool, losses, Retries(3, 0.0))
    for attempt in (uploaded, not_uploaded):
        await end(pool, node, attempt, Receipt(Outcome.ENDED, 0))
    assert (await state_of(pool, uploaded.job_id))[0] == "completed"
    assert (await state_of(pool, not_uploaded.job_id))[0] == "received"


async def test_a_job_fails_after_its_most_lost_attempts(
    pool: Pool, group: GroupOfTest, node: Node, attempt: AttemptId
) -> None:
    await start_attempt(pool, node, attempt, KEY)
    await end(pool, node, attempt, Receipt(Outcome.NODE_TROUBLE, message="Docker is down"))
    assert (await state_of(pool, attempt.job_id))[0] == "received"
    second = await claimed_again(pool, group, attempt.job_id)
    await start_attempt(pool, node, second, KEY)
    await end(pool, node, second, Receipt(Outcome.NODE_TROUBLE, message="Docker is down"))
    assert await state_of(pool, attempt.job_id) == (
        "failed",
        "Docker is down; given up after 2 attempts",
    )


@pytest.mark.parametrize(
    ("counts", "cancelled", "expected"),
    [
        (True, False, ("failed", "lost; given up after 1 attempts")),
        (False, False, ("received", "lost; it will run again")),
        (True, True, ("cancelled", "cancelled; lost, so there is no output")),
    ],
)
async def test_abandoning_attempts(
    pool: Pool, attempt: AttemptId, counts: bool, cancelled: bool, expected: tuple[str, str]
) -> None:
    if cancelled:
        await pool.execute("UPDATE jobs SET cancel_requested_at = now()")
    await abandon(pool, [Abandonment(attempt, "lost", counts=counts)], Retries(1, 0.0))
    assert await state_of(pool, attempt.job_id) == expected
    stop = await pool.fetchval("SELECT stop_requested_at FROM attempts")
    assert stop is not None
    await abandon(pool, [Abandonment(attempt, "again", counts=True)], Retries(1, 0.0))
    assert await state_of(pool, attempt.job_id) == expected


async def test_a_start_whose_answer_was_lost_is_answered_during_a_cancellation(
    pool: Pool, node: Node, attempt: AttemptId
) -> None:
    grant = await start_attempt(pool, node, attempt, KEY)
    await pool.execute("UPDATE jobs SET cancel_requested_at = now()")
    assert await start_attempt(pool, node, attempt, KEY) == grant
    with pytest.raises(StaleAttemptError, match="cancelled"):
        await start_attempt(pool, node, attempt, "start-key-2")


async def test_a_node_learns_of_output_without_an_attempts_mark(
    pool: Pool, group: GroupOfTest, node: Node
) -> None:
    """H8: only then may a retry treat objects without a mark as output of an earlier attempt."""
    answered = []
    # An agent that marks objects, one that does not, and one that is updated in between.
    for renewals in ([True, True], [], [False], [False, True]):
        first = await submitted(pool, group)
        assert not (await start_attempt(pool, node, first, KEY)).unmarked_output
        for marks in renewals:
            await allow_upload(pool, node, first, marks=marks)
        await abandon(pool, [Abandonment(first, "lost", counts=False, later=False)], RETRIES)
        second = await claimed_again(pool, group, first.job_id)
        answered.append((await start_attempt(pool, node, second, KEY)).unmarked_output)
    assert answered == [False, False, True, True]
