"""A group with false claims or failures does not hold up the others. Nomad is a real server."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote
from uuid import UUID

import httpx
import pytest
from dispatch_world import Dispatching, Listing, children_of, dispatching, listed
from service_world import (
    GroupOfTest,
    call,
    join,
    make_group,
    make_jobs,
    make_node,
    running_service,
    signing_request,
    state_of,
)

from leruli_queue.access.authenticate import Node
from leruli_queue.dispatch import setbacks
from leruli_queue.dispatch.fence import Fence
from leruli_queue.nomad.gateway import NomadGateway
from leruli_queue.nomad.names import PARENT_PREFIX
from leruli_queue.settings import Settings
from leruli_queue.store.pool import Pool

LARGEST = 2**31 - 1


@pytest.fixture
async def other(pool: Pool) -> GroupOfTest:
    made = await make_group(pool, "physicists")
    await make_node(pool, made)
    return made


async def break_jobs_of(pool: Pool, group: GroupOfTest) -> None:
    """Make each change of a job of the group fail, as a defect of ours would."""
    await pool.execute(
        f"""
        CREATE FUNCTION break_job() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION 'broken'; END $$;
        CREATE TRIGGER broken BEFORE UPDATE ON jobs FOR EACH ROW
            WHEN (OLD.group_id = {group.id}) EXECUTE FUNCTION break_job();
        """
    )


async def test_the_sum_of_the_cores_that_nodes_claim_is_not_limited(
    dispatcher: Dispatching, pool: Pool, group: GroupOfTest, other: GroupOfTest
) -> None:
    """H3: two nodes of one group that claimed 2^31-1 cores stopped the dispatches of all groups."""
    for _ in range(2):
        await make_node(pool, group, cores=LARGEST, memory_mb=LARGEST)
    jobs = [*await make_jobs(pool, group, 1), *await make_jobs(pool, other, 1)]
    assert await dispatcher.feeder.feed_once() == 2
    assert [(await state_of(pool, job_id))[0] for job_id in jobs] == ["submitted"] * 2


@pytest.mark.parametrize(("cores", "memory_mb"), [(LARGEST, 8000), (4, LARGEST)])
async def test_a_node_that_claims_too_many_cores_is_refused(
    settings: Settings, pool: Pool, group: GroupOfTest, cores: int, memory_mb: int
) -> None:
    """H3: node-join accepted 2,147,483,647 cores."""
    async with running_service(settings) as service:
        body = {
            "grouptoken": group.token,
            "computesecret": group.compute_secret,
            "name": "machine",
            "cores": cores,
            "memorymb": memory_mb,
            "csr": signing_request(),
        }
        answer = await service.post("/v22_1/node-join", json=body)
    assert answer.status_code == 422
    assert f"claims {LARGEST}" in answer.json()["detail"]
    assert await pool.fetchval("SELECT count(*) FROM nodes") == 0


async def test_a_node_that_nomad_does_not_know_gets_no_jobs(
    dispatcher: Dispatching,
    nomad_settings: Settings,
    pool: Pool,
    group: GroupOfTest,
) -> None:
    """H3: a row of node-join was alive at once. Nomad's list with the node in it is a FAKE."""
    [job_id] = await make_jobs(pool, group, 1)
    async with running_service(nomad_settings) as service:
        joined = await join(service, group)
        await dispatcher.fence.enforce()
        assert await dispatcher.feeder.feed_once() == 0
        shown = await listed(pool, group, Node(UUID(joined["nodeid"]), group.id))
        nomad: Any = Listing(dispatcher.gateway, [shown])
        await Fence(nomad_settings, pool, nomad).enforce()
        assert await dispatcher.feeder.feed_once() == 1
        assert len(await children_of(dispatcher.gateway, job_id)) == 1
        # A node that comes back unchanged stays alive. A node that has grown must show up in Nomad.
        for cores, lives in ((4, True), (1000, False)):
            await join(service, group, nodeid=joined["nodeid"], cores=cores)
            assert await pool.fetchval("SELECT alive FROM nodes") is lives


async def test_a_group_whose_claims_fail_holds_up_no_other(
    dispatcher: Dispatching,
    pool: Pool,
    group: GroupOfTest,
    node: Node,
    other: GroupOfTest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """H3: a failure for one group ended the round of all."""
    [job_id] = await make_jobs(pool, group, 1)
    await break_jobs_of(pool, group)
    for _ in range(3):
        await make_jobs(pool, other, 1)
        assert await dispatcher.feeder.feed_once() == 1
    assert dispatcher.feeder._setbacks.paused() == {group.id}
    await pool.execute("DROP TRIGGER broken ON jobs")
    assert await dispatcher.feeder.feed_once() == 0
    later = setbacks.time.monotonic() + setbacks._FIRST_PAUSE_S
    monkeypatch.setattr(setbacks.time, "monotonic", lambda: later)
    assert await dispatcher.feeder.feed_once() == 1
    assert (await state_of(pool, job_id))[0] == "submitted"


async def test_a_group_whose_dispatches_fail_holds_up_no_other(
    dispatcher: Dispatching,
    pool: Pool,
    group: GroupOfTest,
    node: Node,
    other: GroupOfTest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """H3: a defect of a group's parent jobs, which is a FAKE: no real defect is known."""
    await make_jobs(pool, group, 2)
    ensure = dispatcher.parents.ensure

    async def ensure_or_fail(spec: Any, nodes: Any) -> str:
        if nodes.group_id == group.id:
            raise ValueError("a value for Nomad holds an interpolation")
        return await ensure(spec, nodes)

    monkeypatch.setattr(dispatcher.parents, "ensure", ensure_or_fail)
    for _ in range(3):
        await make_jobs(pool, other, 1)
        assert await dispatcher.feeder.feed_once() == 1
    assert dispatcher.feeder._setbacks.paused() == {group.id}


async def test_attempts_that_cannot_be_abandoned_hold_up_no_other_group(
    dispatcher: Dispatching, pool: Pool, group: GroupOfTest, node: Node, other: GroupOfTest
) -> None:
    """H3: the reconciler abandoned the attempts of all groups in one statement."""
    await make_jobs(pool, group, 1)
    [job_id] = await make_jobs(pool, other, 1)
    assert await dispatcher.feeder.feed_once() == 2
    await pool.execute("UPDATE attempts SET allocation_dead_at = now() - interval '1 hour'")
    await break_jobs_of(pool, group)
    await dispatcher.maintenance.overdue.abandon()
    assert (await state_of(pool, job_id))[0] == "received"


def parents_in_nomad(gateway: NomadGateway) -> list[str]:
    """The ids of all parent jobs that Nomad has, stopped ones too."""
    found = gateway._client.jobs.request(params={"prefix": PARENT_PREFIX}, method="get").json()
    return [job["ID"] for job in found if not job["ParentID"]]


async def test_resources_that_differ_by_little_share_a_parent_job(
    dispatcher: Dispatching, pool: Pool, group: GroupOfTest
) -> None:
    """H4: each amount of memory had its own eight parent jobs."""
    await make_node(pool, group, cores=64, memory_mb=250_000)
    for memory_mb in range(4101, 4141):
        await make_jobs(pool, group, 1, memory_mb=memory_mb)
    assert await dispatcher.feeder.feed_once() == 40
    assert await pool.fetchval("SELECT count(*) FROM nomad_parents") <= 8
    asked = await pool.fetch("SELECT DISTINCT nomad_memory_mb FROM jobs")
    assert [row["nomad_memory_mb"] for row in asked] == [4166]  # a sixtieth of the node


async def test_a_job_as_large_as_a_node_still_fits_it(
    dispatcher: Dispatching, pool: Pool, group: GroupOfTest
) -> None:
    """H4: rounding must not make a job too large for the only node that can take it."""
    await make_node(pool, group, cores=4, memory_mb=62_345)
    [job_id] = await make_jobs(pool, group, 1, cores=4, memory_mb=62_345)
    assert await dispatcher.feeder.feed_once() == 1
    [child] = await children_of(dispatcher.gateway, job_id)
    job = await dispatcher.gateway._call(
        lambda: dispatcher.gateway._client.job.get_job(quote(child["ID"], safe=""))
    )
    assert job["TaskGroups"][0]["Tasks"][0]["Resources"]["MemoryMB"] == 62_345
    await dispatcher.maintenance.misplaced.requeue()
    assert (await state_of(pool, job_id))[0] == "submitted"


async def test_a_group_has_a_bounded_number_of_parent_jobs(
    nomad_settings: Settings, pool: Pool, gateway: NomadGateway, group: GroupOfTest
) -> None:
    """H4: child jobs stay in Nomad when their parent job is removed for a new one."""
    await make_node(pool, group, cores=64, memory_mb=250_000)
    few = nomad_settings.model_copy(update={"group_parents": 5})
    before = set(parents_in_nomad(gateway))
    jobs = [(await make_jobs(pool, group, 1, version=f"1.{n}"))[0] for n in range(16)]
    async with dispatching(few, pool, gateway) as active:
        assert await active.feeder.feed_once() == 16
        ours = set(parents_in_nomad(gateway)) - before
        known = {row["id"] for row in await pool.fetch("SELECT id FROM nomad_parents")}
        assert ours == known
        assert len(ours) <= 5
        for job_id in jobs:
            [child] = await children_of(gateway, job_id)
            assert child["Status"] == "pending"
        assert len(active.parents._locks) == 0
        assert active.parents._registered.keys() == known
        # All child jobs are there, and a removed parent job comes back when it is needed.
        await active.maintenance.reconciler.compare()
        await pool.execute("UPDATE attempts SET nomad_job_id = NULL WHERE job_id = $1", jobs[0])
        assert await active.feeder.feed_once() == 1
        assert len(await children_of(gateway, jobs[0])) == 1
    states = {(await state_of(pool, job_id))[0] for job_id in jobs}
    assert states == {"submitted"}


async def test_a_node_unseen_for_a_day_is_left_out_everywhere(
    dispatcher: Dispatching, pool: Pool, group: GroupOfTest, node: Node
) -> None:
    """M5: a machine gone without node-leave stayed in each parent job and each comparison."""
    gone = await make_node(pool, group)
    busy = await make_node(pool, group)
    await pool.execute(
        "UPDATE nodes SET alive = false, last_seen_at = now() - interval '2 days' "
        "WHERE id = ANY($1)",
        [gone.id, busy.id],
    )
    # Its jobs are not forgotten: its silence is noted at each comparison.
    [running] = await make_jobs(pool, group, 1)
    await pool.execute(
        "UPDATE jobs SET state = 'running', node_id = $2 WHERE id = $1", running, busy.id
    )
    [job_id] = await make_jobs(pool, group, 1)
    assert await dispatcher.feeder.feed_once() == 1
    [child] = await children_of(dispatcher.gateway, job_id)
    job = await dispatcher.gateway._call(
        lambda: dispatcher.gateway._client.job.get_job(quote(child["ID"], safe=""))
    )
    [fence] = [c["RTarget"] for c in job["Constraints"] if c["LTarget"] == "${node.unique.id}"]
    assert fence == str(node.id)
    await dispatcher.fence.enforce()
    assert dispatcher.fence.unheard == {node.id, busy.id}
    await pool.execute("UPDATE nodes SET last_seen_at = now() WHERE id = $1", gone.id)
    await dispatcher.fence.enforce()
    assert dispatcher.fence.unheard == {node.id, busy.id, gone.id}


@pytest.mark.parametrize(
    ("limits", "why"),
    [
        ({"group_nodes": 2}, "The group has 2 nodes, and no more than 2"),
        ({"node_joins_a_minute": 2}, "joined more than 2 times in a minute"),
    ],
)
async def test_the_nodes_of_a_group_are_limited(
    nomad_settings: Settings,
    pool: Pool,
    group: GroupOfTest,
    other: GroupOfTest,
    limits: dict[str, int],
    why: str,
) -> None:
    """M5: node-join had no limit, and each of its rows stays for ever."""
    async with running_service(nomad_settings.model_copy(update=limits)) as service:
        first, _ = [await join(service, group) for _ in range(2)]
        body = {"grouptoken": group.token, "computesecret": group.compute_secret}
        machine = {"name": "machine", "cores": 4, "memorymb": 8000, "csr": signing_request()}
        refused = await service.post("/v22_1/node-join", json=body | machine)
        assert refused.status_code == 503
        assert int(refused.headers["Retry-After"]) >= 1
        assert why in refused.json()["detail"]
        assert await pool.fetchval("SELECT count(*) FROM nodes WHERE group_id = $1", group.id) == 2
        await join(service, other)
        if "group_nodes" in limits:
            # One of the two comes back. The place of the other is free once it was gone for long.
            await join(service, group, nodeid=first["nodeid"])
            await pool.execute(
                "UPDATE nodes SET last_seen_at = now() - interval '2 days' WHERE id <> $1",
                UUID(first["nodeid"]),
            )
            await join(service, group)


async def test_nodes_are_listed_page_by_page(
    service: httpx.AsyncClient, pool: Pool, group: GroupOfTest
) -> None:
    """M5: group-nodes had no limit, and listed up to a thousand images per node."""
    made = [(await make_node(pool, group)).id for _ in range(5)]
    images = [f"code:{number}" for number in range(150)]
    await pool.execute("UPDATE nodes SET images = $1", images)
    seen: list[str] = []
    page: dict[str, Any] = {}
    while not seen or page["next"]:
        after = {"after": page["next"]} if seen else {}
        page = await call(service, "group-nodes", grouptoken=group.token, limit=2, **after)
        assert len(page["nodes"]) <= 2
        seen += [node["nodeid"] for node in page["nodes"]]
    assert seen == sorted(map(str, made))
    whole = await call(service, "group-nodes", grouptoken=group.token)
    assert [node["nodeid"] for node in whole["nodes"]] == seen
    assert whole["next"] is None
    assert (whole["nodes"][0]["images"], whole["nodes"][0]["imagecount"]) == (images[:100], 150)
