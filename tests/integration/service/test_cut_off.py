"""Jobs of a silent node are abandoned only where another node could run them.

The Nomad server is real and has no client. So the test writes into the database which nodes Nomad
hears, as the fence would (test_fence.py).
"""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest
from dispatch_world import Dispatching, Listing, dispatching, listed
from service_world import (
    GroupOfTest,
    call,
    claim_jobs,
    hear,
    make_group,
    make_jobs,
    make_node,
    running_service,
    state_of,
)

from leruli_queue.access.authenticate import Node
from leruli_queue.dispatch import overdue as overdue_module
from leruli_queue.jobs.attempts import AttemptId, start_attempt
from leruli_queue.nomad.gateway import NomadGateway
from leruli_queue.settings import Settings
from leruli_queue.store.pool import Pool

WAITS = (
    "its node does not answer, and no other machine that is connected could run it: it goes on "
    "when its node is back, or runs again when an admin removes the node or another machine joins"
)
GIVEN_UP = ("received", "its node does not answer; it will run again")


@pytest.fixture
async def silent(pool: Pool, group: GroupOfTest) -> Node:
    """A node of 4 cores that Nomad has not heard for an hour."""
    node = await make_node(pool, group)
    await pool.execute("UPDATE nodes SET alive = false WHERE id = $1", node.id)
    return node


@pytest.fixture
async def running(pool: Pool, group: GroupOfTest, silent: Node) -> UUID:
    """A job of 2 cores that runs there, as far as the service knows."""
    return await run_on(pool, group, silent)


async def run_on(pool: Pool, group: GroupOfTest, node: Node) -> UUID:
    [job_id] = await make_jobs(pool, group, 1, cores=2)
    await pool.execute("UPDATE nodes SET alive = true WHERE id = $1", node.id)
    [claim] = await claim_jobs(pool, group, 1)
    await pool.execute("UPDATE nodes SET alive = false WHERE id = $1", node.id)
    assert claim["job_id"] == job_id
    await start_attempt(pool, node, AttemptId(job_id, 1), "start-key")
    await pool.execute("UPDATE jobs SET state = 'running' WHERE id = $1", job_id)
    await pool.execute(
        "UPDATE attempts SET allocation_id = $2, silent_since = now() - interval '1 hour' "
        "WHERE job_id = $1",
        job_id,
        str(uuid4()),
    )
    return job_id


async def status_of(settings: Settings, group: GroupOfTest, job_id: UUID) -> tuple[str, str | None]:
    """The answer of task-status, after a check that group-activity says the same."""
    async with running_service(settings) as service:
        status = await call(service, "task-status", secret=group.user_secret, jobid=str(job_id))
        listed = await call(service, "group-activity", grouptoken=group.token)
    [job] = [one for one in listed["jobs"] if one["jobid"] == str(job_id)]
    assert (job["state"], job["reason"]) == (status["status"], status["reason"])
    return status["status"], status["reason"]


async def test_when_the_whole_group_is_silent_nothing_is_abandoned(
    dispatcher: Dispatching, pool: Pool, group: GroupOfTest, running: UUID, nomad_settings: Settings
) -> None:
    also_silent = await make_node(pool, group)
    await pool.execute("UPDATE nodes SET alive = false WHERE id = $1", also_silent.id)
    # A node of another group does not help.
    await hear(pool, await make_node(pool, await make_group(pool, "physicists")))
    await dispatcher.maintenance.overdue.abandon()
    assert (await state_of(pool, running))[0] == "running"
    assert await status_of(nomad_settings, group, running) == ("running", WAITS)


@pytest.mark.parametrize(
    "why", ["too small", "drained", "left", "of an old secret", "silent", "heard for a moment"]
)
async def test_a_node_that_could_not_run_it_is_no_reason_to_abandon_it(
    dispatcher: Dispatching, pool: Pool, group: GroupOfTest, running: UUID, why: str
) -> None:
    other = await make_node(pool, group, cores=1 if why == "too small" else 4)
    await hear(pool, other, for_s=10.0 if why == "heard for a moment" else 3600.0)
    changes = {
        "drained": "drained_at = now()",
        "left": "left_at = now()",
        "of an old secret": "epoch = epoch - 1",
        "silent": "alive = false, alive_since = NULL",
    }
    if why in changes:
        await pool.execute(
            f"UPDATE nodes SET {changes[why]} WHERE id = $1",  # noqa: S608
            other.id,
        )
    await dispatcher.maintenance.overdue.abandon()
    assert (await state_of(pool, running))[0] == "running"


async def test_a_receipt_is_not_overdue_while_the_network_is_away(
    dispatcher: Dispatching, pool: Pool, group: GroupOfTest, running: UUID
) -> None:
    """The job ended just before, and its receipt is on the node's disk."""
    await pool.execute("UPDATE attempts SET allocation_dead_at = now() - interval '1 hour'")
    await dispatcher.maintenance.overdue.abandon()
    assert (await state_of(pool, running))[0] == "running"


async def test_once_another_node_has_been_heard_for_as_long_the_job_runs_there(
    dispatcher: Dispatching, pool: Pool, group: GroupOfTest, running: UUID, nomad_settings: Settings
) -> None:
    joined = await make_node(pool, group, cores=2)
    await hear(pool, joined, for_s=nomad_settings.node_silence_s - 20)
    await dispatcher.maintenance.overdue.abandon()
    # Now it could run elsewhere, so its user sees no reason yet.
    assert await status_of(nomad_settings, group, running) == ("running", None)
    await hear(pool, joined, for_s=nomad_settings.node_silence_s)
    await dispatcher.maintenance.overdue.abandon()
    assert await state_of(pool, running) == GIVEN_UP
    assert await pool.fetchval("SELECT lost_attempts FROM jobs") == 1


async def test_an_admin_ends_the_wait_by_removing_the_node(
    dispatcher: Dispatching,
    pool: Pool,
    group: GroupOfTest,
    silent: Node,
    running: UUID,
    nomad_settings: Settings,
) -> None:
    await dispatcher.maintenance.overdue.abandon()
    async with running_service(nomad_settings) as service:
        answer = await call(
            service, "group-node-remove", adminsecret=group.admin_secret, node=str(silent.id)
        )
    assert answer["requeued"] == 1
    assert await state_of(pool, running) == (
        "received",
        "its node was removed by an admin; it will run again",
    )


async def test_a_cancelled_job_waits_for_no_node(
    dispatcher: Dispatching, pool: Pool, group: GroupOfTest, running: UUID, nomad_settings: Settings
) -> None:
    async with running_service(nomad_settings) as service:
        await call(service, "task-cancel", secret=group.user_secret, jobid=str(running))
    await dispatcher.maintenance.overdue.abandon()
    assert await state_of(pool, running) == (
        "cancelled",
        "cancelled; its node does not answer, so there is no output",
    )


async def test_an_unstarted_attempt_on_a_silent_node_is_requeued(
    dispatcher: Dispatching, pool: Pool, group: GroupOfTest, running: UUID
) -> None:
    await pool.execute("UPDATE jobs SET state = 'submitted', started_at = NULL")
    await pool.execute("UPDATE attempts SET started_at = NULL, node_id = NULL")
    await dispatcher.maintenance.overdue.abandon()
    assert await state_of(pool, running) == GIVEN_UP
    assert await pool.fetchval("SELECT lost_attempts FROM jobs") == 0


async def test_a_node_that_reports_is_not_called_silent(
    pool: Pool, group: GroupOfTest, silent: Node, running: UUID, nomad_settings: Settings
) -> None:
    """Only Nomad does not hear the node."""
    await pool.execute("UPDATE nodes SET reported_at = now() WHERE id = $1", silent.id)
    assert await status_of(nomad_settings, group, running) == ("running", None)


# --- since when a node is heard


@pytest.mark.parametrize(
    ("meanwhile", "states"), [("ready", ["received"] * 3), ("down", ["received", *["running"] * 2])]
)
async def test_a_long_round_checks_again_which_nodes_are_heard(
    nomad_settings: Settings,
    pool: Pool,
    group: GroupOfTest,
    gateway: NomadGateway,
    silent: Node,
    monkeypatch: pytest.MonkeyPatch,
    meanwhile: str,
    states: list[str],
) -> None:
    """The network of all nodes fails while attempts of an earlier silent node are abandoned."""
    monkeypatch.setattr(overdue_module, "_ABANDON_AT_ONCE", 1)
    jobs = [await run_on(pool, group, silent) for _ in range(3)]
    other = await make_node(pool, group)
    await pool.execute("UPDATE nodes SET joined_at = now() - interval '1 hour'")
    nomad: Any = Listing(gateway, [await listed(pool, group, other)])
    nomad.after_one_question = {"Status": meanwhile}
    async with dispatching(nomad_settings, pool, nomad) as active:
        await active.fence.enforce()
        await hear(pool, other)
        await active.maintenance.overdue.abandon()
    assert [(await state_of(pool, job_id))[0] for job_id in sorted(jobs)] == states
