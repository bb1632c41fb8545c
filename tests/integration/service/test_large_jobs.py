"""Large jobs beside small ones: none starves the other, and each shows why it waits."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import UUID

import pytest
from dispatch_world import Dispatching, children_of, dispatching
from service_world import GroupOfTest, make_jobs, make_node, make_user, state_of

from leruli_queue.access.authenticate import Node
from leruli_queue.jobs.attempts import AttemptId, start_attempt
from leruli_queue.jobs.status import job_status
from leruli_queue.nomad.gateway import NomadGateway
from leruli_queue.settings import Settings
from leruli_queue.store.pool import Pool

LARGE = {"cores": 64, "memory_mb": 64_000}
SMALL = {"memory_mb": 1000}
RESERVE_AFTER_S = 600.0


@dataclass
class Mixed:
    """One large node, on which a job runs, and idle small ones; Nomad knows none of them."""

    pool: Pool
    group: GroupOfTest
    active: Dispatching
    large: Node
    small: list[Node]

    async def submitted(self, count: int, **resources: int) -> list[UUID]:
        """Submit jobs and dispatch as many as possible."""
        jobs = await make_jobs(self.pool, self.group, count, **resources)
        await self.active.feeder.feed_once()
        return jobs

    async def place_and_start(self, job: UUID, node: Node) -> None:
        """Place a job on a node and start it."""
        number = await self.pool.fetchval("SELECT attempt FROM jobs WHERE id = $1", job)
        await start_attempt(self.pool, node, AttemptId(job, number), f"key-{job}")
        await self.pool.execute(
            "UPDATE attempts SET allocation_id = $1 WHERE job_id = $2", "x", job
        )

    async def let_time_pass(self, job: UUID, seconds: float) -> None:
        """Let time pass for an unplaced job."""
        await self.pool.execute(
            "UPDATE jobs SET waiting_since = waiting_since - make_interval(secs => $2)"
            " WHERE id = $1",
            job,
            seconds,
        )

    async def reserved(self) -> dict[UUID, UUID]:
        """The reservations after the dispatcher has renewed them."""
        await self.active.maintenance.reservations.renew()
        return {
            row["id"]: row["reserved_for"]
            for row in await self.pool.fetch("SELECT * FROM nodes WHERE reserved_for IS NOT NULL")
        }

    async def reason(self, job: UUID) -> str | None:
        """The reason that its user sees."""
        async with self.pool.acquire() as connection:
            user = await make_user(self.pool, self.group)
            return (await job_status(connection, user, job)).reason


@pytest.fixture
async def mixed(
    nomad_settings: Settings, pool: Pool, gateway: NomadGateway, group: GroupOfTest
) -> AsyncIterator[Mixed]:
    settings = nomad_settings.model_copy(update={"place_patience_s": RESERVE_AFTER_S})
    async with dispatching(settings, pool, gateway) as active:
        large = await make_node(pool, group, cores=64, memory_mb=256_000)
        small = [await make_node(pool, group) for _ in range(5)]
        yield Mixed(pool, group, active, large, small)


async def starving(mixed: Mixed) -> UUID:
    """A second large job is unplaced for too long while small ones start on the large node."""
    [first] = await mixed.submitted(1, cores=32, memory_mb=64_000)
    await mixed.place_and_start(first, mixed.large)
    [second] = await mixed.submitted(1, **LARGE)
    await mixed.let_time_pass(second, RESERVE_AFTER_S + 1)
    [passing] = await mixed.submitted(1, **SMALL)
    await mixed.place_and_start(passing, mixed.large)
    return second


async def test_one_node_is_reserved_and_the_others_go_on(mixed: Mixed) -> None:
    second = await starving(mixed)
    assert await mixed.reserved() == {mixed.large.id: second}
    jobs = await mixed.submitted(100, **SMALL)
    states = [await state_of(mixed.pool, job) for job in jobs]
    # All that fits on five nodes of four cores at once.
    assert [state for state, _ in states].count("submitted") == 20
    [child] = await children_of(mixed.active.gateway, jobs[0])
    full = await mixed.active.gateway._call(
        lambda: mixed.active.gateway._client.job.get_job(child["ID"].replace("/", "%2F"))
    )
    fence = str(full["Constraints"])
    assert all(str(node.id) in fence for node in mixed.small)
    assert str(mixed.large.id) not in fence


async def test_a_user_whose_jobs_wait_is_told_why(mixed: Mixed) -> None:
    await starving(mixed)
    await mixed.reserved()
    [third] = await mixed.submitted(1, cores=16, memory_mb=1000)
    assert (await state_of(mixed.pool, third))[0] == "received"
    assert await mixed.reason(third) == (
        "waiting for its turn: each machine that is large enough is reserved for a large job that "
        "has waited long"
    )


async def test_attempts_dispatched_before_the_reservation_stay(mixed: Mixed) -> None:
    second = await starving(mixed)
    [before] = await mixed.submitted(1, **SMALL)
    await mixed.reserved()
    await mixed.active.maintenance.misplaced.requeue()
    for job in (second, before):
        assert (await state_of(mixed.pool, job))[0] == "submitted"


async def test_the_node_is_released_when_the_job_is_placed(mixed: Mixed) -> None:
    second = await starving(mixed)
    assert await mixed.reserved() == {mixed.large.id: second}
    # Attempts dispatched meanwhile wait for the other nodes only.
    [meanwhile] = await mixed.submitted(1, **SMALL)
    await mixed.place_and_start(second, mixed.large)
    assert await mixed.reserved() == {}
    await mixed.active.maintenance.misplaced.requeue()
    assert await state_of(mixed.pool, meanwhile) == (
        "received",
        "the nodes of the group changed; it will run again",
    )


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE jobs SET cancel_requested_at = now() WHERE id = $1",
        "UPDATE jobs SET state = 'received' WHERE id = $1",
        "UPDATE nodes SET alive = false WHERE reserved_for = $1",
        "UPDATE nodes SET left_at = now() WHERE reserved_for = $1",
        "UPDATE groups SET compute_epoch = compute_epoch + 1"
        " WHERE id = (SELECT group_id FROM jobs WHERE id = $1)",
    ],
)
async def test_the_node_is_released_when_the_reservation_is_useless(
    mixed: Mixed, change: str
) -> None:
    second = await starving(mixed)
    assert await mixed.reserved() == {mixed.large.id: second}
    await mixed.pool.execute(change, second)
    assert await mixed.reserved() == {}


async def test_an_empty_node_is_not_reserved_for_ever(mixed: Mixed) -> None:
    """Nomad does not place the job there for some other reason."""
    second = await starving(mixed)
    assert await mixed.reserved() == {mixed.large.id: second}
    await mixed.pool.execute(
        "UPDATE jobs SET state = 'completed', ended_at = now() WHERE node_id = $1", mixed.large.id
    )
    assert await mixed.reserved() == {mixed.large.id: second}
    await mixed.pool.execute(
        "UPDATE nodes SET reserved_at = reserved_at - make_interval(secs => $1)",
        RESERVE_AFTER_S + 1,
    )
    assert await mixed.reserved() == {}


async def test_nothing_is_reserved_while_no_smaller_job_overtakes(mixed: Mixed) -> None:
    [first] = await mixed.submitted(1, cores=32, memory_mb=64_000)
    [passing] = await mixed.submitted(1, **SMALL)
    for job in (first, passing):
        await mixed.place_and_start(job, mixed.large)
    [second] = await mixed.submitted(1, **LARGE)
    await mixed.pool.execute("UPDATE jobs SET started_at = started_at - interval '1 day'")
    await mixed.let_time_pass(second, RESERVE_AFTER_S + 1)
    assert await mixed.reserved() == {}
    # Another job that asks for as much is no reason either.
    [same] = await mixed.submitted(1, **LARGE)
    await mixed.place_and_start(same, mixed.large)
    assert await mixed.reserved() == {}


async def test_one_node_at_a_time_for_the_job_that_waited_longest(mixed: Mixed) -> None:
    second = await starving(mixed)
    [longer] = await mixed.submitted(1, cores=48, memory_mb=64_000)
    await mixed.let_time_pass(longer, 2 * RESERVE_AFTER_S)
    assert await mixed.reserved() == {mixed.large.id: longer}
    since = await mixed.pool.fetchval("SELECT max(reserved_at) FROM nodes")
    assert await mixed.reserved() == {mixed.large.id: longer}
    assert await mixed.pool.fetchval("SELECT max(reserved_at) FROM nodes") == since
    await mixed.place_and_start(longer, mixed.large)
    assert await mixed.reserved() == {mixed.large.id: second}


async def test_no_node_is_reserved_for_a_job_that_avoids_it(mixed: Mixed) -> None:
    """H5: a node was emptied for a job that avoids it because it failed the job."""
    other = await make_node(mixed.pool, mixed.group, cores=64, memory_mb=256_000)
    # This node lacks more than the one that failed the job.
    for cores, node in ((48, other), (32, mixed.large)):
        [running] = await mixed.submitted(1, cores=cores, memory_mb=128_000)
        await mixed.place_and_start(running, node)
    [avoiding] = await mixed.submitted(1, **LARGE)
    await mixed.pool.execute(
        "INSERT INTO attempts (job_id, number, node_set, node_id, failed_on_node)"
        " VALUES ($1, 0, 'set', $2, true)",
        avoiding,
        mixed.large.id,
    )
    await mixed.let_time_pass(avoiding, RESERVE_AFTER_S + 1)
    [passing] = await mixed.submitted(1, **SMALL)
    await mixed.place_and_start(passing, mixed.large)
    assert await mixed.reserved() == {other.id: avoiding}


async def test_the_waiting_time_goes_on_when_nodes_join(mixed: Mixed) -> None:
    second = await starving(mixed)
    since = await mixed.pool.fetchval("SELECT waiting_since FROM jobs WHERE id = $1", second)
    await make_node(mixed.pool, mixed.group)
    await mixed.active.maintenance.misplaced.requeue()
    assert (await state_of(mixed.pool, second))[0] == "received"
    await mixed.active.feeder.feed_once()
    row = await mixed.pool.fetchrow(
        "SELECT attempt, state, waiting_since FROM jobs WHERE id = $1", second
    )
    assert tuple(row) == (2, "submitted", since)
    # Once it started, the next waiting time starts at zero.
    await mixed.place_and_start(second, mixed.large)
    assert await mixed.pool.fetchval("SELECT waiting_since FROM jobs WHERE id = $1", second) is None


async def test_a_job_unplaced_when_its_node_died_is_requeued_with_a_reason(mixed: Mixed) -> None:
    second = await starving(mixed)
    [small] = await mixed.submitted(1, **SMALL)
    await mixed.pool.execute("UPDATE nodes SET alive = false WHERE id = $1", mixed.large.id)
    await mixed.active.maintenance.misplaced.requeue()
    assert (await state_of(mixed.pool, second))[0] == "received"
    assert await mixed.reason(second) == (
        "waiting for a node with 64 cores and 64000 MB: the only machine that large is troubled "
        "(leruli group nodes says why)"
    )
    assert (await state_of(mixed.pool, small))[0] == "submitted"
    # Not again until a larger node is there.
    await mixed.active.feeder.feed_once()
    assert (await state_of(mixed.pool, second))[0] == "received"
    await mixed.pool.execute("UPDATE nodes SET alive = true WHERE id = $1", mixed.large.id)
    await mixed.active.feeder.feed_once()
    assert (await state_of(mixed.pool, second))[0] == "submitted"
    # None of its attempts counts against the job.
    assert await mixed.pool.fetchval("SELECT lost_attempts FROM jobs WHERE id = $1", second) == 0
