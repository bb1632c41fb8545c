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
from leruli_queue.jobs.attempts import (
    AttemptId,
    StaleAttemptError,
    allow_upload,
    end_attempt,
    start_attempt,
)
from leruli_queue.jobs.cancel import cancel_job
from leruli_queue.jobs.giving_up import Loss, give_up
from leruli_queue.jobs.outcomes import BUCKET_WENT, Outcome, Receipt
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


async def test_leave_to_start_is_given_once(
    pool: Pool, group: GroupOfTest, node: Node, attempt: AttemptId
) -> None:
    leave = await start_attempt(pool, node, attempt, KEY)
    assert (leave.code, leave.version, leave.cores) == ("psi4", "1.3.2", 1)
    assert (leave.memory_mb, leave.time_limit_s) == (4000, 3600)
    assert await start_attempt(pool, node, attempt, KEY) == leave  # the answer was lost
    with pytest.raises(StaleAttemptError, match="started before"):
        await start_attempt(pool, node, attempt, "start-key-2")
    with pytest.raises(StaleAttemptError, match="started before"):
        await start_attempt(pool, await make_node(pool, group), attempt, KEY)


async def test_a_job_whose_bucket_was_purged_while_it_ran_does_not_run_again(
    pool: Pool, node: Node, attempt: AttemptId
) -> None:
    """D16: "it will run again", and 39 s later it had failed."""
    await start_attempt(pool, node, attempt, KEY)
    # As the real agent says it: tests/integration/node/test_purged.py.
    receipt = Receipt(Outcome.UPLOAD_FAILED, 0, BUCKET_WENT)
    await end(pool, node, attempt, receipt)
    state, reason = await state_of(pool, attempt.job_id)
    assert state == "failed"
    assert reason == (
        "its bucket is not there any more: it was purged or deleted while the job ran, so there "
        "are no results"
    )


async def test_of_many_starts_at_once_one_wins(pool: Pool, node: Node, attempt: AttemptId) -> None:
    answers = await asyncio.gather(
        *(start_attempt(pool, node, attempt, f"start-key-{n}") for n in range(8)),
        return_exceptions=True,
    )
    assert sum(isinstance(answer, StaleAttemptError) for answer in answers) == 7


async def test_a_start_and_a_cancellation_at_once_agree(pool: Pool, group: GroupOfTest) -> None:
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


async def test_a_node_that_left_gets_no_leave(pool: Pool, node: Node, attempt: AttemptId) -> None:
    await queries.node_leaves(pool, node_id=node.id)
    with pytest.raises(StaleAttemptError, match="has left"):
        await start_attempt(pool, node, attempt, KEY)


async def test_leave_to_upload_waits_for_who_is_giving_the_attempt_up(
    pool: Pool, node: Node, attempt: AttemptId
) -> None:
    await start_attempt(pool, node, attempt, KEY)
    await allow_upload(pool, node, attempt)
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await give_up(connection, [Loss(attempt, "silent", counts=True)], Retries(3, 0.0))
        asking = asyncio.create_task(allow_upload(pool, node, attempt))
        await asyncio.sleep(0.3)
        assert not asking.done()
        await transaction.commit()
    with pytest.raises(StaleAttemptError):
        await asking


async def test_of_two_equal_receipts_at_once_one_counts(
    pool: Pool, node: Node, attempt: AttemptId
) -> None:
    await start_attempt(pool, node, attempt, KEY)
    receipt = Receipt(Outcome.NODE_TROUBLE)
    verdicts = await asyncio.gather(*(end(pool, node, attempt, receipt) for _ in range(4)))
    assert sum(verdict is not None for verdict in verdicts) == 1
    assert await pool.fetchval("SELECT lost_attempts FROM jobs") == 1


async def test_a_late_receipt_of_an_attempt_that_was_counted_does_not_count_again(
    pool: Pool, node: Node, attempt: AttemptId
) -> None:
    await start_attempt(pool, node, attempt, KEY)
    await allow_upload(pool, node, attempt)
    await give_up(pool, [Loss(attempt, "no receipt", counts=True)], Retries(2, 0.0))
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


async def test_a_job_waits_longer_after_each_failure_of_the_platform(
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
    await give_up(pool, [Loss(second, "lost", counts=True)], retries)
    assert 1100 < await pool.fetchval(waits) <= 1200


async def test_what_was_taken_back_at_once_makes_no_later_wait_longer(
    pool: Pool, group: GroupOfTest, node: Node, attempt: AttemptId
) -> None:
    """M12: after ten changes of the group's nodes the first loss made the job wait for an hour."""
    retries = Retries(10, 30.0)
    waits = "SELECT extract(epoch FROM not_before - now())::float FROM jobs"
    for _ in range(10):
        await give_up(pool, [Loss.taken_back(attempt, "the nodes changed")], retries)
        attempt = await claimed_again(pool, group, attempt.job_id)
    for longest_s in (30, 60, 120):
        await give_up(pool, [Loss(attempt, "not begun", counts=False)], retries)
        assert longest_s / 2 < await pool.fetchval(waits) <= longest_s
        await pool.execute("UPDATE jobs SET not_before = now()")
        attempt = await claimed_again(pool, group, attempt.job_id)
    # What counts has a counter of its own, and a start ends the row of those that were not started.
    await start_attempt(pool, node, attempt, KEY)
    await give_up(pool, [Loss(attempt, "lost", counts=True)], retries)
    assert 15 < await pool.fetchval(waits) <= 30
    await pool.execute("UPDATE jobs SET not_before = now()")
    attempt = await claimed_again(pool, group, attempt.job_id)
    await give_up(pool, [Loss(attempt, "not begun", counts=False)], retries)
    assert 15 < await pool.fetchval(waits) <= 30


async def test_what_was_started_meanwhile_is_not_given_back(
    pool: Pool, node: Node, attempt: AttemptId
) -> None:
    await start_attempt(pool, node, attempt, KEY)
    loss = Loss(attempt, "the nodes changed", counts=False, only_unstarted=True)
    await give_up(pool, [loss], Retries(3, 0.0))
    assert (await state_of(pool, attempt.job_id))[0] == "submitted"


async def test_once_started_only_the_allocation_on_that_node_counts(
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


@pytest.mark.parametrize("told", [datetime(year, 1, 1, tzinfo=UTC) for year in (2, 2020, 9999)])
async def test_no_command_began_before_leave_to_start_or_begins_later_than_now(
    pool: Pool, node: Node, attempt: AttemptId, told: datetime
) -> None:
    """Any node can tell Nomad so of any allocation; a real one has no moment in which to do it."""
    await start_attempt(pool, node, attempt, KEY)
    await pool.execute("UPDATE jobs SET started_at = now() - interval '1 hour'")
    await pool.execute("UPDATE attempts SET started_at = now() - interval '1 hour'")
    seen = Observation(attempt, node.id, "a1", 1, told, dead=False, silent=False)
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


async def test_a_node_with_a_rotated_secret_gets_no_leave(
    pool: Pool, group: GroupOfTest, node: Node, attempt: AttemptId
) -> None:
    running = await submitted(pool, group)
    await start_attempt(pool, node, running, KEY)
    async with pool.acquire() as connection:
        await rotate_compute_secret(connection, group.id)
    with pytest.raises(StaleAttemptError, match="rotated"):
        await start_attempt(pool, node, attempt, KEY)
    await allow_upload(pool, node, running)  # what runs may still finish
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


async def test_a_receipt_overtakes_the_event_that_says_running(
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


async def test_the_successor_is_not_disturbed(
    pool: Pool, group: GroupOfTest, node: Node, attempt: AttemptId
) -> None:
    await start_attempt(pool, node, attempt, KEY)
    await give_up(pool, [Loss(attempt, "its node does not answer", counts=True)], Retries(3, 0.0))
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


async def test_a_receipt_that_was_held_back_still_counts_if_it_had_leave_to_upload(
    pool: Pool, group: GroupOfTest, node: Node
) -> None:
    uploaded, not_uploaded = await submitted(pool, group), await submitted(pool, group)
    for attempt in (uploaded, not_uploaded):
        await start_attempt(pool, node, attempt, KEY)
    await allow_upload(pool, node, uploaded)
    losses = [Loss(attempt, "no receipt", counts=True) for attempt in (uploaded, not_uploaded)]
    await give_up(pool, losses, Retries(3, 0.0))
    for attempt in (uploaded, not_uploaded):
        await end(pool, node, attempt, Receipt(Outcome.ENDED, 0))
    assert (await state_of(pool, uploaded.job_id))[0] == "completed"
    assert (await state_of(pool, not_uploaded.job_id))[0] == "received"


async def test_the_platform_fails_a_job_only_so_often(
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
async def test_giving_up(
    pool: Pool, attempt: AttemptId, counts: bool, cancelled: bool, expected: tuple[str, str]
) -> None:
    if cancelled:
        await pool.execute("UPDATE jobs SET cancel_requested_at = now()")
    await give_up(pool, [Loss(attempt, "lost", counts=counts)], Retries(1, 0.0))
    assert await state_of(pool, attempt.job_id) == expected
    stop = await pool.fetchval("SELECT stop_requested_at FROM attempts")
    assert stop is not None
    await give_up(pool, [Loss(attempt, "again", counts=True)], Retries(1, 0.0))
    assert await state_of(pool, attempt.job_id) == expected


async def test_a_start_whose_answer_was_lost_is_answered_although_it_is_being_cancelled(
    pool: Pool, node: Node, attempt: AttemptId
) -> None:
    leave = await start_attempt(pool, node, attempt, KEY)
    await pool.execute("UPDATE jobs SET cancel_requested_at = now()")
    assert await start_attempt(pool, node, attempt, KEY) == leave
    with pytest.raises(StaleAttemptError, match="cancelled"):
        await start_attempt(pool, node, attempt, "start-key-2")


async def test_a_node_is_told_of_output_that_does_not_say_whose_it_is(
    pool: Pool, group: GroupOfTest, node: Node
) -> None:
    """H8: only then a retry may take objects without a mark for those of an earlier attempt."""
    told = []
    # By an agent that marks, by none, by one that is updated in the middle.
    for renewals in ([True, True], [], [False], [False, True]):
        first = await submitted(pool, group)
        assert not (await start_attempt(pool, node, first, KEY)).unmarked_output
        for marks in renewals:
            await allow_upload(pool, node, first, marks=marks)
        await give_up(pool, [Loss(first, "lost", counts=False, later=False)], RETRIES)
        second = await claimed_again(pool, group, first.job_id)
        told.append((await start_attempt(pool, node, second, KEY)).unmarked_output)
    assert told == [False, False, True, True]
