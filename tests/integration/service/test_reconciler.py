"""Reconciler and stopper against a real Nomad server. No node takes part."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from dispatch_world import Dispatching, children_of, dispatching, stop_child, until_dead
from service_world import GroupOfTest, hear, make_jobs, make_node, make_user, state_of

from leruli_queue.access.authenticate import Node
from leruli_queue.dispatch.notes import note_observations
from leruli_queue.dispatch.observations import observe
from leruli_queue.jobs.attempts import AttemptId
from leruli_queue.jobs.cancel import cancel_job
from leruli_queue.nomad.gateway import NomadGateway
from leruli_queue.nomad.names import attempt_token
from leruli_queue.settings import Settings
from leruli_queue.store.pool import Pool
from leruli_queue.store.queries import queries


class PlacedThere:
    """A FAKE of a Nomad that placed a job on a node, because the real server has no client."""

    def __init__(
        self, gateway: NomadGateway, job_id: UUID, node: Node, **allocation: object
    ) -> None:
        self._gateway = gateway
        self._job_id = job_id
        self._allocation = {"NodeID": str(node.id), "CreateIndex": 1, **allocation}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._gateway, name)

    async def read_allocation(self, allocation_id: str) -> dict[str, Any]:
        [child] = await children_of(self._gateway, self._job_id)
        return {"ID": allocation_id, "JobID": child["ID"], **self._allocation}


async def test_a_cancelled_job_is_stopped_in_nomad(
    dispatcher: Dispatching, pool: Pool, group: GroupOfTest, node: Node
) -> None:
    [job_id] = await make_jobs(pool, group, 1)
    await dispatcher.feeder.feed_once()
    async with pool.acquire() as connection:
        await cancel_job(connection, await make_user(pool, group), job_id)
    assert await dispatcher.stopper.stop_once() == 1
    assert await dispatcher.stopper.stop_once() == 0
    await until_dead(dispatcher.gateway, job_id)


async def test_strays_in_nomad_are_stopped(
    dispatcher: Dispatching, pool: Pool, group: GroupOfTest, node: Node
) -> None:
    [job_id] = await make_jobs(pool, group, 1)
    await dispatcher.feeder.feed_once()
    [parent_id] = await pool.fetchrow("SELECT id FROM nomad_parents")
    stray = AttemptId(uuid4(), 1)
    token = attempt_token(stray)
    meta = {"job": str(stray.job_id), "attempt": "1"}
    await dispatcher.gateway.dispatch(parent_id, meta, id_prefix=token, idempotency_token=token)
    await dispatcher.maintenance.reconciler.compare()
    await until_dead(dispatcher.gateway, stray.job_id)
    [remaining] = await children_of(dispatcher.gateway, job_id)
    assert remaining["Status"] == "pending"


async def test_a_child_job_that_is_dead_without_an_allocation_is_dispatched_again(
    dispatcher: Dispatching, pool: Pool, group: GroupOfTest, node: Node
) -> None:
    [job_id] = await make_jobs(pool, group, 1)
    await dispatcher.feeder.feed_once()
    await stop_child(dispatcher.gateway, job_id)
    await pool.execute("UPDATE attempts SET claimed_at = now() - interval '2 minutes'")
    await dispatcher.maintenance.reconciler.compare()
    assert (await state_of(pool, job_id))[0] == "received"
    assert await pool.fetchval("SELECT lost_attempts FROM jobs") == 0


async def test_a_started_attempt_missing_in_nomad_gets_time_for_its_receipt(
    dispatcher: Dispatching, pool: Pool, group: GroupOfTest, node: Node
) -> None:
    [job_id] = await make_jobs(pool, group, 1)
    await dispatcher.feeder.feed_once()
    await pool.execute("UPDATE jobs SET state = 'running', started_at = now()")
    await pool.execute(
        "UPDATE attempts SET nomad_job_id = 'gone', claimed_at = now() - interval '2 minutes'"
    )
    await stop_child(dispatcher.gateway, job_id)
    await dispatcher.maintenance.reconciler.compare()
    assert (await state_of(pool, job_id))[0] == "running"
    assert await pool.fetchval("SELECT allocation_dead_at IS NOT NULL FROM attempts")


async def test_nomad_is_asked_for_the_node_before_its_job_is_abandoned(
    nomad_settings: Settings, pool: Pool, gateway: NomadGateway, group: GroupOfTest, node: Node
) -> None:
    [job_id] = await make_jobs(pool, group, 1)

    back: Any = PlacedThere(gateway, job_id, node, ClientStatus="running")
    async with dispatching(nomad_settings, pool, back) as active:
        await active.feeder.feed_once()
        await pool.execute(
            "UPDATE jobs SET state = 'running', started_at = now(), node_id = $1", node.id
        )
        await pool.execute(
            "UPDATE attempts SET silent_since = now() - interval '1 hour', allocation_id = 'a1'"
        )
        await hear(pool, node)
        await active.maintenance.overdue.abandon()
        assert (await state_of(pool, job_id))[0] == "running"
        assert await pool.fetchval("SELECT silent_since FROM attempts") is None


async def test_an_ended_attempt_on_a_node_that_nomad_does_not_hear_is_abandoned(
    nomad_settings: Settings, pool: Pool, gateway: NomadGateway, group: GroupOfTest, node: Node
) -> None:
    """The node went silent before its receipt came: Nomad leaves it `failed`, not `unknown`."""
    [job_id] = await make_jobs(pool, group, 1)

    over = {"main": {"State": "dead", "StartedAt": "2026-11-24T00:00:00Z"}}
    failed: Any = PlacedThere(gateway, job_id, node, ClientStatus="failed", TaskStates=over)
    async with dispatching(nomad_settings, pool, failed) as active:
        await active.feeder.feed_once()
        await pool.execute(
            "UPDATE jobs SET state = 'running', started_at = now(), node_id = $1", node.id
        )
        await pool.execute("UPDATE attempts SET allocation_id = 'a1', node_id = $1", node.id)
        await active.fence.enforce()
        await active.maintenance.overdue.note_unheard()
        assert await pool.fetchval("SELECT silent_since IS NOT NULL FROM attempts")
        await hear(pool, await make_node(pool, group))
        await pool.execute("UPDATE attempts SET silent_since = now() - interval '1 hour'")
        await active.maintenance.overdue.abandon()
    assert await state_of(pool, job_id) == (
        "received",
        "its node does not answer; it will run again",
    )


async def test_an_attempt_that_its_node_does_not_start_runs_on_another(
    nomad_settings: Settings, pool: Pool, gateway: NomadGateway, group: GroupOfTest, node: Node
) -> None:
    [job_id] = await make_jobs(pool, group, 1)
    there = PlacedThere(gateway, job_id, node, ClientStatus="pending")
    async with dispatching(nomad_settings, pool, gateway) as active:
        await active.feeder.feed_once()
        for allocation_id in ("a1", "a2"):
            seen = observe(await there.read_allocation(allocation_id))
            assert seen is not None
            await note_observations(pool, [seen])
            await active.maintenance.overdue.abandon()
            assert (await state_of(pool, job_id))[0] == "submitted"
            # Nomad can place it again. Then the grace time starts at zero.
            await pool.execute("UPDATE attempts SET placed_at = now() - interval '1 hour'")
        await note_observations(pool, [seen])
        await active.maintenance.overdue.abandon()
    assert await state_of(pool, job_id) == (
        "received",
        "its node did not start it; it will run again",
    )
    assert await pool.fetchval("SELECT lost_attempts FROM jobs") == 0


async def test_a_silent_node_that_still_uploads_keeps_its_attempt(
    dispatcher: Dispatching, pool: Pool, group: GroupOfTest, node: Node
) -> None:
    [job_id] = await make_jobs(pool, group, 1)
    await dispatcher.feeder.feed_once()
    await hear(pool, await make_node(pool, group))
    await pool.execute("UPDATE jobs SET state = 'running', started_at = now()")
    await pool.execute(
        "UPDATE attempts SET silent_since = now() - interval '1 hour', upload_at = now(), "
        "allocation_id = $1",
        str(uuid4()),
    )
    await dispatcher.maintenance.overdue.abandon()
    assert (await state_of(pool, job_id))[0] == "running"


async def test_an_attempt_that_nomad_lost_is_abandoned_after_a_minute(
    dispatcher: Dispatching, pool: Pool, group: GroupOfTest, node: Node
) -> None:
    [job_id] = await make_jobs(pool, group, 1)
    await dispatcher.feeder.feed_once()
    [child] = await children_of(dispatcher.gateway, job_id)
    await pool.execute("UPDATE attempts SET nomad_job_id = 'gone/dispatch-gone'")
    await dispatcher.gateway._call(
        lambda: dispatcher.gateway._client.job.deregister_job(
            child["ID"].replace("/", "%2F"), purge=True
        )
    )
    await dispatcher.maintenance.reconciler.compare()
    assert (await state_of(pool, job_id))[0] == "submitted"
    await pool.execute("UPDATE attempts SET claimed_at = now() - interval '2 minutes'")
    await dispatcher.maintenance.reconciler.compare()
    assert await state_of(pool, job_id) == (
        "received",
        "the cluster manager lost it; it will run again",
    )


async def test_attempts_unplaced_with_an_earlier_template_are_requeued(
    dispatcher: Dispatching, pool: Pool, group: GroupOfTest, node: Node
) -> None:
    """An earlier release dispatched it. Nodes of this release lack the drivers that it needs."""
    [job_id] = await make_jobs(pool, group, 1)
    with pytest.MonkeyPatch.context() as earlier:
        earlier.setattr("leruli_queue.dispatch.nodes.template", lambda: "the earlier one")
        await dispatcher.feeder.feed_once()
        await dispatcher.maintenance.misplaced.requeue()
    assert (await state_of(pool, job_id))[0] == "submitted"
    await dispatcher.maintenance.misplaced.requeue()
    assert (await state_of(pool, job_id))[0] == "received"
    assert await pool.fetchval("SELECT lost_attempts FROM jobs") == 0


async def test_attempts_unplaced_for_nodes_that_are_gone_are_requeued(
    dispatcher: Dispatching, pool: Pool, group: GroupOfTest, node: Node
) -> None:
    [job_id] = await make_jobs(pool, group, 1)
    await dispatcher.feeder.feed_once()
    await dispatcher.maintenance.misplaced.requeue()
    assert (await state_of(pool, job_id))[0] == "submitted"
    await queries.node_leaves(pool, node_id=node.id)
    await make_node(pool, group)
    await dispatcher.maintenance.misplaced.requeue()
    assert (await state_of(pool, job_id))[0] == "received"
    assert await pool.fetchval("SELECT lost_attempts FROM jobs") == 0
    await dispatcher.stopper.stop_once()
    await until_dead(dispatcher.gateway, job_id)
    await dispatcher.feeder.feed_once()
    assert [child["Status"] for child in await children_of(dispatcher.gateway, job_id)] in (
        ["dead", "pending"],
        ["pending", "dead"],
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("allocation_dead_at = now() - interval '1 hour'", "it ended without a receipt"),
        ("silent_since = now() - interval '1 hour'", "its node does not answer"),
    ],
)
async def test_overdue_attempts_are_abandoned(
    dispatcher: Dispatching,
    pool: Pool,
    group: GroupOfTest,
    node: Node,
    change: str,
    reason: str,
) -> None:
    [job_id] = await make_jobs(pool, group, 1)
    await dispatcher.feeder.feed_once()
    await hear(pool, await make_node(pool, group))
    await pool.execute("UPDATE jobs SET state = 'running', started_at = now()")
    await dispatcher.maintenance.overdue.abandon()
    assert (await state_of(pool, job_id))[0] == "running"
    await pool.execute(
        f"UPDATE attempts SET {change}, allocation_id = $1",  # noqa: S608
        str(uuid4()),
    )
    await dispatcher.maintenance.overdue.abandon()
    assert await state_of(pool, job_id) == ("received", f"{reason}; it will run again")


async def reported(pool: Pool, node: Node, ago_s: float) -> None:
    """Set the time of a node's last report."""
    await pool.execute(
        "UPDATE nodes SET reported_at = now() - make_interval(secs => $2) WHERE id = $1",
        node.id,
        ago_s,
    )


async def test_time_without_reports_does_not_count_against_a_receipt(
    dispatcher: Dispatching, pool: Pool, group: GroupOfTest, node: Node
) -> None:
    """M3: an outage of `serve` alone, longer than the grace time, ran finished jobs again."""
    [job_id] = await make_jobs(pool, group, 1)
    await dispatcher.feeder.feed_once()
    await pool.execute("UPDATE jobs SET state = 'running', started_at = now()")
    await pool.execute("UPDATE attempts SET allocation_dead_at = now() - interval '2 hours'")

    async def state() -> str:
        await dispatcher.maintenance.overdue.abandon()
        return str((await state_of(pool, job_id))[0])

    # The service is away ...
    await reported(pool, node, 3600)
    await dispatcher.fence.enforce()
    assert await state() == "running"
    # ... and back, and the receipt has the whole grace time.
    await reported(pool, node, 0)
    await dispatcher.fence.enforce()
    assert await state() == "running"
    for since_s, then in ((870, "running"), (930, "received")):
        # As in a dispatcher that has just started.
        dispatcher.fence._newest_report = datetime.min.replace(tzinfo=UTC)
        for ago_s in range(since_s, -1, -30):
            await reported(pool, node, ago_s)
            await dispatcher.fence.enforce()
        assert await state() == then
