"""Several attempts under one child job: the dispatcher's duties, and crashes.

The Nomad server is real and has no client. So the test notes what a client would tell it.
"""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from dispatch_world import Dispatching, children_of, dispatching, until_dead
from service_world import GroupOfTest, hear, make_jobs, make_node, make_user, state_of
from slot_world import ask, ended, place, placed_by_nomad, running, take, told

from leruli_queue.access.authenticate import Node
from leruli_queue.dispatch.load import loads_by_group
from leruli_queue.jobs.abandon import Abandonment, abandon
from leruli_queue.jobs.attempts import AttemptId
from leruli_queue.jobs.cancel import cancel_job
from leruli_queue.jobs.outcomes import Outcome, Receipt
from leruli_queue.jobs.retries import Retries
from leruli_queue.nodes.overview import list_nodes
from leruli_queue.nomad.clusters import DEFAULT
from leruli_queue.nomad.gateway import NomadGateway
from leruli_queue.settings import Settings
from leruli_queue.store.pool import Pool


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"slot_max_s": 300.0})


@pytest.fixture
async def slot(
    pool: Pool, group: GroupOfTest, node: Node, dispatcher: Dispatching, settings: Settings
) -> list[AttemptId]:
    """A slot's first attempt and two further ones."""
    first = await placed_by_nomad(pool, group, node, dispatcher)
    await make_jobs(pool, group, 2)
    return [first, *[one.attempt for one in await ask(pool, node, settings, first, most=2)]]


async def cancel(pool: Pool, group: GroupOfTest, attempt: AttemptId) -> None:
    async with pool.acquire() as connection, connection.transaction():
        await cancel_job(connection, await make_user(pool, group), attempt.job_id)


async def lives(dispatcher: Dispatching, first: AttemptId) -> bool:
    [child] = await children_of(dispatcher.gateway, first.job_id)
    return not child["Stop"]


async def test_a_cancelled_further_attempt_is_told_to_its_node_through_nomad(
    pool: Pool,
    group: GroupOfTest,
    node: Node,
    dispatcher: Dispatching,
    settings: Settings,
    slot: list[AttemptId],
) -> None:
    """Nomad is told to stop the child job. The node's report says which attempt is meant."""
    first, cancelled, other = slot
    await cancel(pool, group, cancelled)
    assert await dispatcher.stopper.stop_once() == 1
    await until_dead(dispatcher.gateway, first.job_id)
    assert await told(pool, node, *slot) == ({cancelled}, set())
    # The slot runs nothing further. What runs there comes to its own end.
    await make_jobs(pool, group, 1)
    assert not await ask(pool, node, settings, first, key="after")
    stopped = Receipt(Outcome.STOPPED)
    await take(pool, node, settings, receipts=[(cancelled, stopped), (other, ended())])
    assert [(await state_of(pool, one.job_id))[0] for one in slot] == [
        "submitted",
        "cancelled",
        "completed",
    ]


async def test_a_second_cancellation_in_a_slot(
    pool: Pool, group: GroupOfTest, node: Node, dispatcher: Dispatching, slot: list[AttemptId]
) -> None:
    """The child job is stopped already. The report tells it, which a node in this case repeats."""
    _, one, other = slot
    await cancel(pool, group, one)
    await dispatcher.stopper.stop_once()
    await cancel(pool, group, other)
    assert await told(pool, node, *slot) == ({one, other}, set())
    assert await dispatcher.stopper.stop_once() == 1
    assert await dispatcher.stopper.stop_once() == 0


async def test_a_cancelled_attempt_that_has_ended_stops_no_other(
    pool: Pool,
    group: GroupOfTest,
    node: Node,
    dispatcher: Dispatching,
    settings: Settings,
    slot: list[AttemptId],
) -> None:
    """Its receipt came before the stopper."""
    first, further, other = slot
    for one in (further, first):
        await cancel(pool, group, one)
        await take(pool, node, settings, receipts=[(one, ended())])
        assert await dispatcher.stopper.stop_once() == 1
        assert await dispatcher.stopper.stop_once() == 0
        assert await lives(dispatcher, first)
        await make_jobs(pool, group, 1)
        # A slot whose own first attempt was cancelled runs nothing further.
        goes_on = await ask(pool, node, settings, first, key=f"after {one.job_id}")
        assert bool(goes_on) is (one == further)
    assert (await state_of(pool, other.job_id))[0] == "submitted"


async def test_the_last_attempt_of_a_slot_is_stopped_as_any(
    pool: Pool, group: GroupOfTest, node: Node, dispatcher: Dispatching, settings: Settings
) -> None:
    first = await placed_by_nomad(pool, group, node, dispatcher)
    await cancel(pool, group, first)
    await take(pool, node, settings, receipts=[(first, ended())])
    await dispatcher.stopper.stop_once()
    assert not await lives(dispatcher, first)


async def test_an_abandoned_further_attempt_is_dropped_by_its_node(
    pool: Pool,
    node: Node,
    dispatcher: Dispatching,
    settings: Settings,
    slot: list[AttemptId],
) -> None:
    first, abandoned, _ = slot
    why = Abandonment(abandoned, "it is to run elsewhere", counts=False, later=False)
    await abandon(pool, [why], Retries.of(settings))
    assert await told(pool, node, *slot) == (set(), {abandoned})
    await dispatcher.stopper.stop_once()
    await until_dead(dispatcher.gateway, first.job_id)
    assert (await state_of(pool, abandoned.job_id))[0] == "received"


async def test_an_attempt_that_ends_with_its_stopped_slot_is_not_counted(
    pool: Pool,
    group: GroupOfTest,
    node: Node,
    dispatcher: Dispatching,
    settings: Settings,
    slot: list[AttemptId],
) -> None:
    """The node could not ask which attempt was meant, so it ended all."""
    first, cancelled, other = slot
    await cancel(pool, group, cancelled)
    await dispatcher.stopper.stop_once()
    stopped = Receipt(Outcome.STOPPED)
    await take(pool, node, settings, receipts=[(one, stopped) for one in slot])
    states = {one: (await state_of(pool, one.job_id))[0] for one in slot}
    assert states == {first: "received", cancelled: "cancelled", other: "received"}
    assert await pool.fetchval("SELECT sum(lost_attempts) FROM jobs") == 0


async def test_a_slot_that_nomad_stops_by_itself(
    pool: Pool, group: GroupOfTest, node: Node, settings: Settings, slot: list[AttemptId]
) -> None:
    """An operator stopped the child job: nothing is to be cancelled, all attempts are counted."""
    first, *further = slot
    assert await told(pool, node, *slot) == (set(), set())
    await place(pool, first, node, dead=True)
    dead = "SELECT count(*) FROM attempts WHERE allocation_dead_at IS NOT NULL"
    assert await pool.fetchval(dead) == 3
    await make_jobs(pool, group, 1)
    assert not await ask(pool, node, settings, first, key="after")
    stopped = Receipt(Outcome.STOPPED)
    await take(pool, node, settings, receipts=[(one, stopped) for one in further])
    assert {(await state_of(pool, one.job_id))[0] for one in further} == {"received"}
    assert await pool.fetchval("SELECT sum(lost_attempts) FROM jobs") == 2


async def test_a_further_attempt_keeps_its_child_job(
    pool: Pool,
    node: Node,
    dispatcher: Dispatching,
    settings: Settings,
    slot: list[AttemptId],
) -> None:
    """The first attempt has ended, and its child job goes on."""
    first, further, last = slot
    await take(pool, node, settings, receipts=[(first, ended()), (further, ended())])
    # However long the last one runs.
    await pool.execute("UPDATE attempts SET started_at = now() - interval '1 day'")
    await dispatcher.maintenance.reconciler.compare()
    assert await lives(dispatcher, first)
    await pool.execute("UPDATE attempts SET started_at = now()")
    # Between two attempts of the slot too.
    await take(pool, node, settings, receipts=[(last, ended())])
    await dispatcher.maintenance.reconciler.compare()
    assert await lives(dispatcher, first)
    # But not for ever.
    await pool.execute("UPDATE attempts SET started_at = now() - interval '361 s'")
    await dispatcher.maintenance.reconciler.compare()
    await until_dead(dispatcher.gateway, first.job_id)


async def test_without_slots_a_child_job_without_an_attempt_is_stopped(
    pool: Pool,
    group: GroupOfTest,
    node: Node,
    gateway: NomadGateway,
    nomad_settings: Settings,
) -> None:
    off = nomad_settings.model_copy(update={"slot_max_s": 0.0})
    async with dispatching(off, pool, gateway) as dispatcher:
        first = await placed_by_nomad(pool, group, node, dispatcher)
        await take(pool, node, off, receipts=[(first, ended())])
        await dispatcher.maintenance.reconciler.compare()
        await until_dead(gateway, first.job_id)


async def test_all_attempts_of_a_child_job_that_nomad_lost_get_time_for_their_receipts(
    pool: Pool,
    node: Node,
    dispatcher: Dispatching,
    settings: Settings,
    slot: list[AttemptId],
) -> None:
    first, *further = slot
    await take(pool, node, settings, receipts=[(first, ended())])
    await pool.execute(
        "UPDATE attempts SET nomad_job_id = 'gone', claimed_at = now() - interval '2 minutes'"
    )
    await dispatcher.gateway.stop_job(
        (await children_of(dispatcher.gateway, first.job_id))[0]["ID"]
    )
    await until_dead(dispatcher.gateway, first.job_id)
    await dispatcher.maintenance.reconciler.compare()
    assert {(await state_of(pool, one.job_id))[0] for one in further} == {"submitted"}
    dead = await pool.fetch("SELECT job_id FROM attempts WHERE allocation_dead_at IS NOT NULL")
    assert {row["job_id"] for row in dead} == {one.job_id for one in further}


async def test_the_tracker_notes_the_allocation_for_all_attempts_of_its_slot(
    pool: Pool, node: Node, settings: Settings, slot: list[AttemptId]
) -> None:
    first, further, last = slot
    await take(pool, node, settings, receipts=[(first, ended())])
    silent = "SELECT count(*) FROM attempts WHERE silent_since IS NOT NULL"
    await place(pool, first, node, silent=True)
    assert await pool.fetchval(silent) == 2
    # Nomad's news that the first attempt's command runs says nothing of the others.
    await place(pool, first, node, running_since=datetime.now(UTC))
    assert await pool.fetchval(silent) == 0
    assert {(await state_of(pool, one.job_id))[0] for one in (further, last)} == {"submitted"}
    await take(pool, node, settings, running=[further])
    assert (await state_of(pool, further.job_id))[0] == "running"


async def test_a_lost_node_loses_all_attempts_of_its_slots(
    pool: Pool,
    group: GroupOfTest,
    node: Node,
    dispatcher: Dispatching,
    settings: Settings,
    slot: list[AttemptId],
) -> None:
    first, *further = slot
    await take(pool, node, settings, receipts=[(first, ended())])
    await hear(pool, await make_node(pool, group))
    await pool.execute("UPDATE nodes SET alive = false WHERE id = $1", node.id)
    await pool.execute(
        "UPDATE attempts SET silent_since = now() - interval '1 hour',"
        " upload_at = now() - interval '1 hour'"
    )
    await dispatcher.maintenance.overdue.abandon()
    for one in further:
        assert await state_of(pool, one.job_id) == (
            "received",
            "its node does not answer; it will run again",
        )
    # When it is back, it may not go on with any of them.
    assert await told(pool, node, *further) == (set(), set(further))
    late = await take(pool, node, settings, receipts=[(one, ended()) for one in further])
    assert set(late.values()) == {None}


async def test_an_attempt_that_its_node_never_heard_of_runs_again_uncounted(
    pool: Pool,
    node: Node,
    dispatcher: Dispatching,
    slot: list[AttemptId],
) -> None:
    """The answer that granted it was lost, and so was its slot."""
    first, known, unknown = slot
    # Longer ago than any of them may take: the node's word counts all the same.
    await pool.execute(
        "UPDATE attempts SET started_at = now() - interval '1 day',"
        " upload_at = now() - interval '1 hour'"
    )
    await told(pool, node, first, known)
    await dispatcher.maintenance.overdue.abandon()
    assert [(await state_of(pool, one.job_id))[0] for one in slot] == [
        "submitted",
        "submitted",
        "received",
    ]
    row = await pool.fetchrow("SELECT * FROM jobs WHERE id = $1", unknown.job_id)
    assert (row["lost_attempts"], row["not_before"]) == (0, None)
    assert row["reason"] == "its node does not know of it; it will run again"


async def test_a_removed_node_loses_all_attempts_of_its_slots(
    pool: Pool, node: Node, settings: Settings, slot: list[AttemptId]
) -> None:
    await pool.execute("UPDATE nodes SET removed_at = now() WHERE id = $1", node.id)
    removed = [Abandonment(one, "its node was removed", counts=False, later=False) for one in slot]
    await abandon(pool, removed, Retries.of(settings))
    assert await told(pool, node, *slot) == (set(), set(slot))


async def test_a_receipt_of_a_first_attempt_while_another_one_runs(
    pool: Pool, node: Node, settings: Settings, slot: list[AttemptId]
) -> None:
    first, further, _ = slot
    await take(pool, node, settings, running=[further])
    for code in (0, 9):  # The second receipt is a repeated one.
        assert await take(pool, node, settings, receipts=[(first, ended(code))]) == {first: None}
    assert (await state_of(pool, first.job_id))[0] == "completed"
    assert (await state_of(pool, further.job_id))[0] == "running"
    assert await told(pool, node, *slot) == (set(), {first})


async def test_a_slot_has_its_cores_once(
    pool: Pool, group: GroupOfTest, node: Node, settings: Settings, slot: list[AttemptId]
) -> None:
    """However many of its attempts are prepared or uploaded."""
    load = (await loads_by_group(pool, DEFAULT))[group.id]
    assert (load.cores, load.memory_mb, load.unplaced) == (1, 4000, 0)
    async with pool.acquire() as connection:
        [shown] = await list_nodes(connection, group.id, limit=10)
    assert (shown.jobs, shown.cores_used, shown.memory_used_mb) == (3, 1, 4000)
    # Also when the first attempt has ended.
    await take(pool, node, settings, receipts=[(slot[0], ended())])
    assert (await loads_by_group(pool, DEFAULT))[group.id].cores == 1


async def test_idle_nodes_are_filled_at_once_while_slots_go_on(
    pool: Pool,
    group: GroupOfTest,
    node: Node,
    gateway: NomadGateway,
    nomad_settings: Settings,
    dispatcher: Dispatching,
    settings: Settings,
) -> None:
    await pool.execute("UPDATE nodes SET cores = 2, memory_mb = 8000")
    slots = [await running(pool, group, node) for _ in range(2)]
    await make_jobs(pool, group, 40)
    assert len(await ask(pool, node, settings, *slots, most=3)) == 6
    # The window's smallest size. Nothing more: the slots have all cores.
    assert await dispatcher.feeder.feed_once() == settings.window_min
    await pool.execute("UPDATE attempts SET allocation_id = 'b' WHERE allocation_id IS NULL")
    idle = await make_node(pool, group, cores=16, memory_mb=64_000)
    key_id = await pool.fetchval("SELECT token_key_id FROM groups WHERE id = $1", group.id)
    assert await gateway.admit_node(idle.id, f"group-{key_id}")
    # Its 16 cores, of which the attempts that were just placed have four.
    assert await dispatcher.feeder.feed_once() == 16 - settings.window_min
