"""When a slot ends: its node, its age, and jobs that wait in Nomad."""

from __future__ import annotations

import asyncio

import pytest
from service_world import GroupOfTest, make_group, make_jobs, make_node
from slot_world import ask, dispatched, running, waits

from leruli_queue.access.authenticate import Node
from leruli_queue.jobs.attempts import AttemptId, StaleAttemptError, start_attempt
from leruli_queue.nomad.clusters import DEFAULT
from leruli_queue.settings import Settings
from leruli_queue.store.pool import Pool
from leruli_queue.store.queries import queries, rows


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"slot_max_s": 300.0, "slot_wait_s": 1.0})


@pytest.fixture
async def node(pool: Pool, group: GroupOfTest) -> Node:
    """A node for four of the usual jobs."""
    return await make_node(pool, group, cores=4, memory_mb=16_000)


# What keeps the slots of a node from being free in a moment: two that run their first attempts, two
# with long jobs; and a job that waits for less than 10 s, which a slot may end for.
NOT_IN_A_MOMENT = [
    "UPDATE attempts SET slot_job = NULL WHERE slot_job IN (SELECT DISTINCT slot_job FROM attempts"
    " WHERE slot_job IS NOT NULL ORDER BY 1 LIMIT 2)",
    "UPDATE attempts SET started_at = now() - interval '61 s' WHERE slot_job IN"
    " (SELECT DISTINCT slot_job FROM attempts WHERE slot_job IS NOT NULL ORDER BY 1 LIMIT 2)",
    "UPDATE jobs SET waiting_since = now() - interval '9 s' WHERE cores = 3",
]


async def full(pool: Pool, group: GroupOfTest, node: Node) -> list[AttemptId]:
    """Four slots, which fill the node."""
    return [await running(pool, group, node) for _ in range(4)]


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE nodes SET drained_at = now()",
        "UPDATE nodes SET left_at = now()",
        "UPDATE nodes SET removed_at = now()",
        "UPDATE nodes SET alive = false",
        "UPDATE nodes SET held_at = now()",
        "UPDATE nodes SET agent_trouble = 'its disk is full'",
        "UPDATE nodes SET reserved_at = now(), reserved_for = (SELECT id FROM jobs LIMIT 1)",
        "UPDATE groups SET compute_epoch = compute_epoch + 1",
        "UPDATE groups SET cluster = 'another'",
        "UPDATE groups SET disabled_at = now()",
        "UPDATE attempts SET stop_requested_at = now()",
        "UPDATE attempts SET allocation_dead_at = now()",
        "UPDATE attempts SET started_at = now() - interval '301 s'",
    ],
)
async def test_a_slot_ends(
    pool: Pool, group: GroupOfTest, node: Node, settings: Settings, change: str
) -> None:
    first = await running(pool, group, node)
    await make_jobs(pool, group, 1, cores=2)
    await make_jobs(pool, group, 3)
    assert await ask(pool, node, settings, first, key="before")
    await pool.execute(change)
    assert not await ask(pool, node, settings, first, key="after")


async def test_a_slot_of_another_node_or_group_goes_on_for_nobody(
    pool: Pool, group: GroupOfTest, node: Node, settings: Settings
) -> None:
    first = await running(pool, group, node)
    await make_jobs(pool, group, 2)
    stranger = await make_node(pool, await make_group(pool, "strangers"))
    for other in (stranger, await make_node(pool, group)):
        assert not await ask(pool, other, settings, first)


async def test_a_slot_ends_for_a_job_that_waits_for_its_room(
    pool: Pool, group: GroupOfTest, node: Node, settings: Settings
) -> None:
    first, *_ = await full(pool, group, node)
    await make_jobs(pool, group, 3)
    small = await dispatched(pool, group, memory_mb=100)
    assert await ask(pool, node, settings, first, key="just dispatched")
    await waits(pool, small, 2)
    assert not await ask(pool, node, settings, first, key="it waits")
    # The node asked ahead, and asks again when the command that runs has ended.
    await pool.execute("UPDATE attempts SET allocation_id = 'b' WHERE job_id = $1", small.job_id)
    assert not await ask(pool, node, settings, first, key="it is placed")


async def test_one_slot_ends_for_one_job_that_waits(
    pool: Pool, group: GroupOfTest, node: Node, settings: Settings
) -> None:
    """Not each slot of each node that asks. If the job still waits, another one ends later."""
    other = await make_node(pool, group, cores=4, memory_mb=16_000)
    slots = [await full(pool, group, of) for of in (node, other)]
    await make_jobs(pool, group, 100)
    small = await dispatched(pool, group, memory_mb=100, ago_s=2)
    assert len(await ask(pool, node, settings, *slots[0])) == 3
    assert len(await ask(pool, other, settings, *slots[1])) == 4
    assert len(await ask(pool, node, settings, *slots[0], key="soon")) == 3
    await pool.execute("UPDATE attempts SET room_made_at = now() - interval '11 s'")
    assert len(await ask(pool, other, settings, *slots[1], key="later")) == 3
    # Once it is placed, no slot ends for it.
    await pool.execute("UPDATE attempts SET allocation_id = 'b' WHERE job_id = $1", small.job_id)
    await pool.execute("UPDATE attempts SET room_made_at = NULL")
    assert len(await ask(pool, node, settings, *slots[0], key="last")) == 3


async def test_several_nodes_at_once_end_one_slot_for_a_job(
    pool: Pool, group: GroupOfTest, settings: Settings
) -> None:
    nodes = [await make_node(pool, group, cores=1, memory_mb=4000) for _ in range(6)]
    slots = [await running(pool, group, node) for node in nodes]
    await make_jobs(pool, group, 100)
    await dispatched(pool, group, memory_mb=100, ago_s=2)
    answers = await asyncio.gather(
        *(ask(pool, node, settings, slot) for node, slot in zip(nodes, slots, strict=True))
    )
    assert sorted(map(len, answers)) == [0, 1, 1, 1, 1, 1]


async def test_a_slot_ends_for_a_job_that_fits_into_its_room_and_what_is_free(
    pool: Pool, group: GroupOfTest, node: Node, settings: Settings
) -> None:
    slots = [await running(pool, group, node) for _ in range(3)]
    await make_jobs(pool, group, 20)
    await dispatched(pool, group, cores=2, memory_mb=8000, ago_s=2)
    assert len(await ask(pool, node, settings, *slots)) == 2


@pytest.mark.parametrize(
    ("cores", "memory_mb", "ago_s"),
    [
        # It fits beside the slots, so Nomad places it without their end.
        (1, 100, 5),
        # It would not fit after the end of one slot. A node is reserved for it.
        (3, 100, 700),
        (1, 8001, 700),
    ],
)
async def test_a_slot_does_not_end_for_a_job_that_gains_nothing(
    pool: Pool,
    group: GroupOfTest,
    node: Node,
    settings: Settings,
    cores: int,
    memory_mb: int,
    ago_s: float,
) -> None:
    slots = [await running(pool, group, node) for _ in range(3)]
    # Its prepared and uploading attempts have no room of their own.
    await make_jobs(pool, group, 20)
    await ask(pool, node, settings, *slots, most=3, key="more of each slot")
    await dispatched(pool, group, cores=cores, memory_mb=memory_mb, ago_s=ago_s)
    assert len(await ask(pool, node, settings, *slots)) == 3


async def test_a_slot_ends_for_a_job_that_nomad_does_not_place_beside_it(
    pool: Pool, group: GroupOfTest, node: Node, settings: Settings
) -> None:
    """Nomad knows of something on the node that the database does not."""
    slots = [await running(pool, group, node) for _ in range(3)]
    await make_jobs(pool, group, 20)
    await dispatched(pool, group, memory_mb=100, ago_s=11)
    assert len(await ask(pool, node, settings, *slots)) == 2


@pytest.mark.parametrize("change", [None, *NOT_IN_A_MOMENT])
async def test_a_node_is_reserved_soon_for_a_job_that_needs_several_slots(
    pool: Pool, group: GroupOfTest, node: Node, settings: Settings, change: str | None
) -> None:
    """Slots that go on leave Nomad no moment to place it. So it does not wait for ten minutes."""
    slots = await full(pool, group, node)
    large = await dispatched(pool, group, cores=3, memory_mb=12_000)
    await pool.execute("UPDATE jobs SET waiting_since = now() - interval '11 s' WHERE cores = 3")
    await make_jobs(pool, group, 20)
    # One of each slot runs, one is prepared.
    await ask(pool, node, settings, *slots, most=2, key="before")
    await pool.execute("UPDATE jobs SET state = 'completed', ended_at = now() WHERE name = 'first'")
    if change:
        await pool.execute(change)
    arguments = {"cluster": DEFAULT, "reserve_after_s": 600.0, "after_slots_s": 10.0}
    reserved = await rows(queries.reserve_nodes(pool, **arguments))
    assert [(row["node_id"], row["job_id"]) for row in reserved] == (
        [] if change else [(node.id, large.job_id)]
    )
    # So a large job waits for the jobs that run, as without slots.
    assert bool(await ask(pool, node, settings, *slots, key="after")) is (change is not None)


async def test_a_slot_runs_a_job_that_waits_in_nomad_for_the_same_resources(
    pool: Pool, group: GroupOfTest, node: Node, settings: Settings
) -> None:
    """Jobs that were submitted later would overtake it."""
    first, *_ = await full(pool, group, node)
    waiting = [await dispatched(pool, group) for _ in range(3)]
    backlog = await make_jobs(pool, group, 5)
    for attempt, ago_s in zip(waiting, (12, 11, 5), strict=True):
        await waits(pool, attempt, ago_s)
    granted = await ask(pool, node, settings, first, most=3)
    assert [grant.attempt for grant in granted] == [
        AttemptId(waiting[0].job_id, 2),
        AttemptId(waiting[1].job_id, 2),
        AttemptId(backlog[0], 1),
    ]
    # Its attempt in Nomad is stopped, and cannot start any more. It does not count.
    stopped = await rows(queries.attempts_to_stop(pool, cluster=DEFAULT, limit=10))
    assert [(row["job_id"], row["number"]) for row in stopped] == [
        (attempt.job_id, 1) for attempt in sorted(waiting[:2], key=lambda a: a.job_id)
    ]
    with pytest.raises(StaleAttemptError, match="not the job's current attempt"):
        await start_attempt(pool, node, waiting[0], "start-key-2")
    assert await pool.fetchval("SELECT sum(lost_attempts) FROM jobs") == 0
    assert await ask(pool, node, settings, first, most=3) == granted


async def test_a_waiting_job_that_avoids_nodes_gets_a_slot_of_another_node(
    pool: Pool, group: GroupOfTest, node: Node, settings: Settings
) -> None:
    """It failed on this node, so Nomad has to place it on the other one."""
    other = await make_node(pool, group, cores=4, memory_mb=16_000)
    slots = [(await full(pool, group, of))[0] for of in (node, other)]
    await make_jobs(pool, group, 20)
    waiting = await dispatched(pool, group, ago_s=20)
    await pool.execute(
        "UPDATE jobs SET lost_attempts = 1, attempt = 2 WHERE priority = 100 AND started_at IS NULL"
    )
    await pool.execute("UPDATE attempts SET number = 2 WHERE job_id = $1", waiting.job_id)
    await pool.execute(
        "INSERT INTO attempts (job_id, number, node_set, cluster, node_id, failed_on_node)"
        " VALUES ($1, 1, 'set', $2, $3, true)",
        waiting.job_id,
        DEFAULT,
        node.id,
    )
    assert len(await ask(pool, node, settings, slots[0])) == 1
    assert not await ask(pool, other, settings, slots[1])
    # With no other node it goes to this one.
    await pool.execute("UPDATE nodes SET alive = false WHERE id = $1", other.id)
    await pool.execute("UPDATE attempts SET room_made_at = NULL, slot_ended_at = NULL")
    assert not await ask(pool, node, settings, slots[0], key="alone")


async def test_a_probe_ends_no_slot(
    pool: Pool, group: GroupOfTest, node: Node, settings: Settings
) -> None:
    """It waits for the node that it probes."""
    first, *_ = await full(pool, group, node)
    held = await make_node(pool, group)
    await make_jobs(pool, group, 20)
    probe = await dispatched(pool, group, memory_mb=100, ago_s=20)
    assert not await ask(pool, node, settings, first)
    await pool.execute("UPDATE attempts SET room_made_at = NULL, slot_ended_at = NULL")
    await pool.execute(
        "UPDATE nodes SET held_at = now(), probe_job = $2, probe_attempt = 1 WHERE id = $1",
        held.id,
        probe.job_id,
    )
    assert await ask(pool, node, settings, first)


async def test_a_stopped_child_job_ends_its_slot(
    pool: Pool, group: GroupOfTest, node: Node, settings: Settings
) -> None:
    """Even when the attempt for which it was stopped is over."""
    first = await running(pool, group, node)
    await make_jobs(pool, group, 5)
    [further] = await ask(pool, node, settings, first)
    await queries.note_stopped(
        pool, job_id=further.attempt.job_id, number=further.attempt.number, child=True
    )
    await pool.execute(
        "UPDATE attempts SET ended_at = now() WHERE job_id = $1", further.attempt.job_id
    )
    assert not await ask(pool, node, settings, first, key="after")


async def test_a_dispatcher_of_an_earlier_release_ends_slots(
    pool: Pool, group: GroupOfTest, node: Node, settings: Settings
) -> None:
    """During an update. It would stop child jobs whose first attempts have ended."""
    first = await running(pool, group, node)
    await make_jobs(pool, group, 5)
    older = (
        "INSERT INTO dispatchers (cluster, seen_at) VALUES ($1, now())"
        " ON CONFLICT (cluster) DO UPDATE SET seen_at = now() + interval '1 s'"
    )
    await queries.note_dispatcher(pool, cluster=DEFAULT, away_s=None)
    assert await ask(pool, node, settings, first, key="a new one")
    await pool.execute(older, DEFAULT)
    assert not await ask(pool, node, settings, first, key="an older one")
    await queries.note_nomad_away(pool, cluster=DEFAULT, silence_s=-2.0)
    assert not await ask(pool, node, settings, first, key="one that is not active")
    await queries.note_dispatcher(pool, cluster=DEFAULT, away_s=None)
    await queries.note_nomad_away(pool, cluster=DEFAULT, silence_s=-2.0)
    assert await ask(pool, node, settings, first, key="a new one again")


async def test_slots_can_be_turned_off(
    pool: Pool, group: GroupOfTest, node: Node, settings: Settings
) -> None:
    first = await running(pool, group, node)
    await make_jobs(pool, group, 1)
    off = settings.model_copy(update={"slot_max_s": 0.0})
    assert not await ask(pool, node, off, first)
    assert await ask(pool, node, settings, first)
