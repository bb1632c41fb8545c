"""Large jobs beside small ones: neither starves the other, and each is told why it waits."""

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
PATIENCE_S = 600.0


@dataclass
class Mixed:
    """One large machine, on which a job runs, and idle small ones; Nomad knows none of them."""

    pool: Pool
    group: GroupOfTest
    active: Dispatching
    large: Node
    small: list[Node]

    async def submitted(self, count: int, **shape: int) -> list[UUID]:
        """Submit jobs and dispatch what goes."""
        jobs = await make_jobs(self.pool, self.group, count, **shape)
        await self.active.feeder.feed_once()
        return jobs

    async def began(self, job: UUID, node: Node) -> None:
        """A job was placed on a node and begins."""
        number = await self.pool.fetchval("SELECT attempt FROM jobs WHERE id = $1", job)
        await start_attempt(self.pool, node, AttemptId(job, number), f"key-{job}")
        await self.pool.execute(
            "UPDATE attempts SET allocation_id = $1 WHERE job_id = $2", "x", job
        )

    async def waited(self, job: UUID, seconds: float) -> None:
        """So much time passes for a job that has no place."""
        await self.pool.execute(
            "UPDATE jobs SET waiting_since = waiting_since - make_interval(secs => $2)"
            " WHERE id = $1",
            job,
            seconds,
        )

    async def kept(self) -> dict[UUID, UUID]:
        """What is kept, after the dispatcher looked again."""
        await self.active.maintenance.reservations.renew()
        return {
            row["id"]: row["reserved_for"]
            for row in await self.pool.fetch("SELECT * FROM nodes WHERE reserved_for IS NOT NULL")
        }

    async def reason(self, job: UUID) -> str | None:
        """What its user is told."""
        async with self.pool.acquire() as connection:
            user = await make_user(self.pool, self.group)
            return (await job_status(connection, user, job)).reason


@pytest.fixture
async def mixed(
    nomad_settings: Settings, pool: Pool, gateway: NomadGateway, group: GroupOfTest
) -> AsyncIterator[Mixed]:
    settings = nomad_settings.model_copy(update={"place_patience_s": PATIENCE_S})
    async with dispatching(settings, pool, gateway) as active:
        large = await make_node(pool, group, cores=64, memory_mb=256_000)
        small = [await make_node(pool, group) for _ in range(5)]
        yield Mixed(pool, group, active, large, small)


async def starving(mixed: Mixed) -> UUID:
    """A second large job has waited too long, while small ones began where the first runs."""
    [first] = await mixed.submitted(1, cores=32, memory_mb=64_000)
    await mixed.began(first, mixed.large)
    [second] = await mixed.submitted(1, **LARGE)
    await mixed.waited(second, PATIENCE_S + 1)
    [passing] = await mixed.submitted(1, **SMALL)
    await mixed.began(passing, mixed.large)
    return second


async def test_one_node_is_kept_and_the_others_go_on(mixed: Mixed) -> None:
    second = await starving(mixed)
    assert await mixed.kept() == {mixed.large.id: second}
    jobs = await mixed.submitted(100, **SMALL)
    states = [await state_of(mixed.pool, job) for job in jobs]
    # All that fits on five machines of four cores at once.
    assert [state for state, _ in states].count("submitted") == 20
    [child] = await children_of(mixed.active.gateway, jobs[0])
    full = await mixed.active.gateway._call(
        lambda: mixed.active.gateway._client.job.get_job(child["ID"].replace("/", "%2F"))
    )
    fence = str(full["Constraints"])
    assert all(str(node.id) in fence for node in mixed.small)
    assert str(mixed.large.id) not in fence


async def test_who_is_held_back_is_told_why(mixed: Mixed) -> None:
    await starving(mixed)
    await mixed.kept()
    [third] = await mixed.submitted(1, cores=16, memory_mb=1000)
    assert (await state_of(mixed.pool, third))[0] == "received"
    assert await mixed.reason(third) == (
        "waiting for its turn: what is large enough is kept for a job that needs much of a "
        "machine and has waited long"
    )


async def test_what_waited_before_is_left_where_it_is(mixed: Mixed) -> None:
    second = await starving(mixed)
    [before] = await mixed.submitted(1, **SMALL)
    await mixed.kept()
    await mixed.active.maintenance.misplaced.take_back()
    for job in (second, before):
        assert (await state_of(mixed.pool, job))[0] == "submitted"


async def test_the_node_is_given_free_when_the_job_has_its_place(mixed: Mixed) -> None:
    second = await starving(mixed)
    assert await mixed.kept() == {mixed.large.id: second}
    # What is dispatched meanwhile waits for the other nodes only.
    [meanwhile] = await mixed.submitted(1, **SMALL)
    await mixed.began(second, mixed.large)
    assert await mixed.kept() == {}
    await mixed.active.maintenance.misplaced.take_back()
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
async def test_the_node_is_given_free_when_it_helps_nobody(mixed: Mixed, change: str) -> None:
    second = await starving(mixed)
    assert await mixed.kept() == {mixed.large.id: second}
    await mixed.pool.execute(change, second)
    assert await mixed.kept() == {}


async def test_an_empty_node_is_not_kept_for_ever(mixed: Mixed) -> None:
    """Nomad does not place the job there for some other reason."""
    second = await starving(mixed)
    assert await mixed.kept() == {mixed.large.id: second}
    await mixed.pool.execute(
        "UPDATE jobs SET state = 'completed', ended_at = now() WHERE node_id = $1", mixed.large.id
    )
    assert await mixed.kept() == {mixed.large.id: second}
    await mixed.pool.execute(
        "UPDATE nodes SET reserved_at = reserved_at - make_interval(secs => $1)", PATIENCE_S + 1
    )
    assert await mixed.kept() == {}


async def test_nothing_is_kept_while_nothing_smaller_passes(mixed: Mixed) -> None:
    [first] = await mixed.submitted(1, cores=32, memory_mb=64_000)
    [passing] = await mixed.submitted(1, **SMALL)
    for job in (first, passing):
        await mixed.began(job, mixed.large)
    [second] = await mixed.submitted(1, **LARGE)
    await mixed.pool.execute("UPDATE jobs SET started_at = started_at - interval '1 day'")
    await mixed.waited(second, PATIENCE_S + 1)
    assert await mixed.kept() == {}
    # Another of the same size is no reason either.
    [same] = await mixed.submitted(1, **LARGE)
    await mixed.began(same, mixed.large)
    assert await mixed.kept() == {}


async def test_one_node_at_a_time_and_for_who_waited_longest(mixed: Mixed) -> None:
    second = await starving(mixed)
    [longer] = await mixed.submitted(1, cores=48, memory_mb=64_000)
    await mixed.waited(longer, 2 * PATIENCE_S)
    assert await mixed.kept() == {mixed.large.id: longer}
    since = await mixed.pool.fetchval("SELECT max(reserved_at) FROM nodes")
    assert await mixed.kept() == {mixed.large.id: longer}
    assert await mixed.pool.fetchval("SELECT max(reserved_at) FROM nodes") == since
    await mixed.began(longer, mixed.large)
    assert await mixed.kept() == {mixed.large.id: second}


async def test_no_node_is_kept_for_a_job_that_avoids_it(mixed: Mixed) -> None:
    """H5: the node that failed it was emptied for a job that goes to others only."""
    other = await make_node(mixed.pool, mixed.group, cores=64, memory_mb=256_000)
    # It lacks more than the node that failed the job.
    for cores, node in ((48, other), (32, mixed.large)):
        [running] = await mixed.submitted(1, cores=cores, memory_mb=128_000)
        await mixed.began(running, node)
    [avoiding] = await mixed.submitted(1, **LARGE)
    await mixed.pool.execute(
        "INSERT INTO attempts (job_id, number, node_set, node_id, failed_on_node)"
        " VALUES ($1, 0, 'set', $2, true)",
        avoiding,
        mixed.large.id,
    )
    await mixed.waited(avoiding, PATIENCE_S + 1)
    [passing] = await mixed.submitted(1, **SMALL)
    await mixed.began(passing, mixed.large)
    assert await mixed.kept() == {other.id: avoiding}


async def test_patience_goes_on_when_nodes_join(mixed: Mixed) -> None:
    second = await starving(mixed)
    since = await mixed.pool.fetchval("SELECT waiting_since FROM jobs WHERE id = $1", second)
    await make_node(mixed.pool, mixed.group)
    await mixed.active.maintenance.misplaced.take_back()
    assert (await state_of(mixed.pool, second))[0] == "received"
    await mixed.active.feeder.feed_once()
    row = await mixed.pool.fetchrow(
        "SELECT attempt, state, waiting_since FROM jobs WHERE id = $1", second
    )
    assert tuple(row) == (2, "submitted", since)
    # Once it began, another wait begins anew.
    await mixed.began(second, mixed.large)
    assert await mixed.pool.fetchval("SELECT waiting_since FROM jobs WHERE id = $1", second) is None


async def test_what_waits_for_a_node_that_died_is_taken_back_and_told(mixed: Mixed) -> None:
    second = await starving(mixed)
    [small] = await mixed.submitted(1, **SMALL)
    await mixed.pool.execute("UPDATE nodes SET alive = false WHERE id = $1", mixed.large.id)
    await mixed.active.maintenance.misplaced.take_back()
    assert (await state_of(mixed.pool, second))[0] == "received"
    assert await mixed.reason(second) == (
        "waiting for a node with 64 cores and 64000 MB: the only machine that large is troubled "
        "(group-nodes says why)"
    )
    assert (await state_of(mixed.pool, small))[0] == "submitted"
    # Not again until a larger one is there.
    await mixed.active.feeder.feed_once()
    assert (await state_of(mixed.pool, second))[0] == "received"
    await mixed.pool.execute("UPDATE nodes SET alive = true WHERE id = $1", mixed.large.id)
    await mixed.active.feeder.feed_once()
    assert (await state_of(mixed.pool, second))[0] == "submitted"
    # No attempt of it counts against the job.
    assert await mixed.pool.fetchval("SELECT lost_attempts FROM jobs WHERE id = $1", second) == 0
