"""The feeder against a real Nomad server, without nodes: dispatched attempts stay unplaced."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from dispatch_world import Dispatching, children_of, dispatching
from pydantic import SecretStr
from service_world import GroupOfTest, claim_jobs, make_group, make_jobs, make_node, state_of

from leruli_queue.access.authenticate import Node
from leruli_queue.dispatch.nodes import usable_nodes
from leruli_queue.jobs.attempts import AttemptId, start_attempt
from leruli_queue.nomad.clusters import DEFAULT
from leruli_queue.nomad.errors import NomadAwayError, NomadError
from leruli_queue.nomad.gateway import DispatchAnswer, NomadGateway
from leruli_queue.settings import Settings
from leruli_queue.store.pool import Pool


async def test_jobs_are_dispatched_up_to_the_window(
    dispatcher: Dispatching, pool: Pool, group: GroupOfTest, node: Node
) -> None:
    jobs = await make_jobs(pool, group, 6)
    assert await dispatcher.feeder.feed_once() == 4
    assert await dispatcher.feeder.feed_once() == 0
    states = [(await state_of(pool, job_id))[0] for job_id in jobs]
    assert states == ["submitted"] * 4 + ["received"] * 2
    [child] = await children_of(dispatcher.gateway, jobs[0])
    assert child["Status"] == "pending"
    assert child["Meta"] == {"job": str(jobs[0]), "attempt": "1"}
    noted = await pool.fetchval("SELECT nomad_job_id FROM attempts WHERE job_id = $1", jobs[0])
    assert noted == child["ID"]


async def test_free_slots_are_filled_at_once(
    dispatcher: Dispatching, pool: Pool, group: GroupOfTest
) -> None:
    await make_node(pool, group, cores=32, memory_mb=200_000)
    await make_jobs(pool, group, 50)
    assert await dispatcher.feeder.feed_once() == 32
    # They are unplaced, and more than the window: nothing is free.
    assert await dispatcher.feeder.feed_once() == 0


async def test_the_largest_window_holds_however_much_is_free(
    nomad_settings: Settings, pool: Pool, gateway: NomadGateway, group: GroupOfTest
) -> None:
    await make_node(pool, group, cores=32, memory_mb=200_000)
    await make_jobs(pool, group, 50)
    narrow = nomad_settings.model_copy(update={"window_max": 8})
    async with dispatching(narrow, pool, gateway) as dispatcher:
        assert await dispatcher.feeder.feed_once() == 8
        # All of them are unplaced.
        assert await dispatcher.feeder.feed_once() == 0


async def test_a_job_without_room_in_nomad_shows_that_nothing_is_free(
    dispatcher: Dispatching, pool: Pool, group: GroupOfTest
) -> None:
    await make_node(pool, group, cores=32, memory_mb=200_000)
    await make_jobs(pool, group, 3)
    assert await dispatcher.feeder.feed_once() == 3
    await pool.execute("UPDATE attempts SET waiting_reason = 'waiting for a node'")
    await make_jobs(pool, group, 50)
    assert await dispatcher.feeder.feed_once() == 1


async def test_a_placed_attempt_that_has_not_started_does_not_count_as_unplaced(
    dispatcher: Dispatching, pool: Pool, group: GroupOfTest, node: Node
) -> None:
    await make_jobs(pool, group, 10)
    assert await dispatcher.feeder.feed_once() == 4
    assert await dispatcher.feeder.feed_once() == 0
    # Their image is being loaded, which can take minutes.
    await pool.execute("UPDATE attempts SET allocation_id = 'an-allocation'")
    assert await dispatcher.feeder.feed_once() == 4


async def test_without_a_node_nothing_is_dispatched(
    dispatcher: Dispatching, pool: Pool, group: GroupOfTest
) -> None:
    [job_id] = await make_jobs(pool, group, 1)
    assert await dispatcher.feeder.feed_once() == 0
    assert (await state_of(pool, job_id))[0] == "received"


async def test_unplaced_wide_jobs_do_not_keep_small_ones_out(
    dispatcher: Dispatching, pool: Pool, group: GroupOfTest, node: Node
) -> None:
    wide = await make_jobs(pool, group, 10, cores=4)
    small = await make_jobs(pool, group, 10)
    for _ in range(5):
        await dispatcher.feeder.feed_once()
    submitted = await pool.fetch("SELECT id FROM jobs WHERE state = 'submitted' ORDER BY id")
    assert [row["id"] for row in submitted] == [*wide[:4], *small[:4]]


async def test_killed_between_claim_and_dispatch(
    dispatcher: Dispatching, pool: Pool, group: GroupOfTest, node: Node
) -> None:
    [job_id] = await make_jobs(pool, group, 1)
    digest = (await usable_nodes(pool, DEFAULT))[group.id].digest
    await claim_jobs(pool, group, 1, node_set=digest)
    assert await dispatcher.feeder.feed_once() == 1
    assert len(await children_of(dispatcher.gateway, job_id)) == 1


async def test_killed_between_dispatch_and_commit(
    nomad_settings: Settings, pool: Pool, gateway: NomadGateway, group: GroupOfTest, node: Node
) -> None:
    [job_id] = await make_jobs(pool, group, 1)
    async with dispatching(nomad_settings, pool, gateway) as first:
        await first.feeder.feed_once()
    child_id = await pool.fetchval("UPDATE attempts SET nomad_job_id = NULL RETURNING job_id")
    assert child_id == job_id
    async with dispatching(nomad_settings, pool, gateway) as second:
        assert await second.feeder.feed_once() == 1
        assert await second.feeder.feed_once() == 0
    [child] = await children_of(gateway, job_id)
    assert await pool.fetchval("SELECT nomad_job_id FROM attempts") == child["ID"]


async def test_a_started_attempt_is_not_requeued_for_new_nodes(
    nomad_settings: Settings, pool: Pool, gateway: NomadGateway, group: GroupOfTest, node: Node
) -> None:
    [job_id] = await make_jobs(pool, group, 1)
    async with dispatching(nomad_settings, pool, gateway) as first:
        await first.feeder.feed_once()
    [child] = await children_of(gateway, job_id)
    # The dispatcher is killed before its commit. The attempt starts all the same, and a node joins.
    await pool.execute("UPDATE attempts SET nomad_job_id = NULL")
    await start_attempt(pool, node, AttemptId(job_id, 1), "start-key-1")
    await make_node(pool, group)
    async with dispatching(nomad_settings, pool, gateway) as second:
        assert await second.feeder.feed_once() == 1
    assert (await state_of(pool, job_id))[0] == "submitted"
    assert await pool.fetchval("SELECT attempt FROM jobs") == 1
    assert await pool.fetchval("SELECT nomad_job_id FROM attempts") == child["ID"]


class LosesFirstAnswer:
    """A FAKE of a network that loses Nomad's answer to the first dispatch; Nomad itself is real."""

    def __init__(self, gateway: NomadGateway) -> None:
        self._gateway = gateway
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._gateway, name)

    async def dispatch(self, *arguments: Any, **keywords: Any) -> DispatchAnswer:
        self.calls += 1
        answer = await self._gateway.dispatch(*arguments, **keywords)
        if self.calls == 1:
            raise NomadAwayError("the answer was lost")
        return answer


async def test_after_a_lost_answer_the_dispatch_is_repeated(
    nomad_settings: Settings, pool: Pool, gateway: NomadGateway, group: GroupOfTest, node: Node
) -> None:
    [job_id] = await make_jobs(pool, group, 1)
    lossy: Any = LosesFirstAnswer(gateway)
    async with dispatching(nomad_settings, pool, lossy) as active:
        with pytest.raises(NomadAwayError):
            await active.feeder.feed_once()
        assert (await state_of(pool, job_id))[0] == "submitted"
        assert await active.feeder.feed_once() == 1
    [child] = await children_of(gateway, job_id)
    assert await pool.fetchval("SELECT nomad_job_id FROM attempts") == child["ID"]


class TellsPhantom:
    """A FAKE of the race of two dispatches with one token: Nomad gives the loser a false id."""

    def __init__(self, gateway: NomadGateway) -> None:
        self._gateway = gateway
        self._calls = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._gateway, name)

    async def dispatch(self, *arguments: Any, **keywords: Any) -> DispatchAnswer:
        self._calls += 1
        answer = await self._gateway.dispatch(*arguments, **keywords)
        return DispatchAnswer("phantom", repeated=False) if self._calls == 1 else answer


async def test_a_false_id_is_not_trusted(
    nomad_settings: Settings, pool: Pool, gateway: NomadGateway, group: GroupOfTest, node: Node
) -> None:
    [job_id] = await make_jobs(pool, group, 1)
    digest = (await usable_nodes(pool, DEFAULT))[group.id].digest
    await claim_jobs(pool, group, 1, node_set=digest)  # by a dispatcher whose call is under way
    racing: Any = TellsPhantom(gateway)
    async with dispatching(nomad_settings, pool, racing) as active:
        assert await active.feeder.feed_once() == 1
    [child] = await children_of(gateway, job_id)
    assert await pool.fetchval("SELECT nomad_job_id FROM attempts") == child["ID"]


@pytest.mark.parametrize("purge", [True, False])
async def test_a_lost_parent_is_registered_again(
    dispatcher: Dispatching, pool: Pool, group: GroupOfTest, node: Node, purge: bool
) -> None:
    first, second = await make_jobs(pool, group, 1), await make_jobs(pool, group, 1)
    await dispatcher.feeder.feed_once()
    [parent_id] = await pool.fetchrow("SELECT id FROM nomad_parents")
    await dispatcher.gateway._call(  # as an operator would, or a Nomad that was wiped
        lambda: dispatcher.gateway._client.job.deregister_job(parent_id, purge=purge)
    )
    third = await make_jobs(pool, group, 1)
    await pool.execute("UPDATE jobs SET state = 'cancelled' WHERE id = ANY($1)", [*first, *second])
    assert await dispatcher.feeder.feed_once() == 1
    assert len(await children_of(dispatcher.gateway, third[0])) == 1


async def test_no_refusal_of_nomad_fails_a_job(
    nomad_settings: Settings, pool: Pool, gateway: NomadGateway, group: GroupOfTest, node: Node
) -> None:
    jobs = await make_jobs(pool, group, 20)
    locked_out = NomadGateway(replace(gateway.cluster, token=SecretStr(str(uuid4()))))
    async with dispatching(nomad_settings, pool, locked_out) as active:
        for _ in range(10):
            with pytest.raises(NomadError, match="403"):
                await active.feeder.feed_once()
    await locked_out.close()
    assert await pool.fetchval("SELECT sum(lost_attempts) FROM jobs") == 0
    async with dispatching(nomad_settings, pool, gateway) as active:
        assert await active.feeder.feed_once() == 4
    states = [(await state_of(pool, job_id))[0] for job_id in jobs]
    assert states == ["submitted"] * 4 + ["received"] * 16


async def test_a_lost_node_pool_is_made_again(
    dispatcher: Dispatching, pool: Pool, group: GroupOfTest
) -> None:
    await make_node(pool, group)  # Nomad has neither the node nor its pool
    await make_jobs(pool, group, 1)
    assert await dispatcher.feeder.feed_once() == 1


class RefusesOne:
    """A FAKE before the real Nomad: every dispatch of one attempt fails."""

    def __init__(self, gateway: NomadGateway) -> None:
        self._gateway = gateway
        self.refused: str | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._gateway, name)

    async def dispatch(
        self, parent_id: str, meta: dict[str, str], **keywords: Any
    ) -> DispatchAnswer:
        self.refused = self.refused or meta["job"]
        if meta["job"] == self.refused:
            raise NomadError("500: rpc error")
        return await self._gateway.dispatch(parent_id, meta, **keywords)


async def test_one_dispatch_that_fails_does_not_stop_the_others(
    nomad_settings: Settings, pool: Pool, gateway: NomadGateway, group: GroupOfTest, node: Node
) -> None:
    stubborn: Any = RefusesOne(gateway)
    async with dispatching(nomad_settings, pool, stubborn) as active:
        [first] = await make_jobs(pool, group, 1)
        with pytest.raises(NomadError):
            await active.feeder.feed_once()
        others = await make_jobs(pool, group, 2)
        assert await active.feeder.feed_once() == 2
    dispatched = await pool.fetch("SELECT job_id FROM attempts WHERE nomad_job_id IS NOT NULL")
    assert {row["job_id"] for row in dispatched} == set(others)
    assert (await state_of(pool, first))[0] == "submitted"


async def test_an_idle_parent_job_is_removed_from_nomad(
    dispatcher: Dispatching, pool: Pool, group: GroupOfTest, node: Node
) -> None:
    await make_jobs(pool, group, 1)
    await dispatcher.feeder.feed_once()
    await dispatcher.parents.remove_idle()
    assert await pool.fetchval("SELECT count(*) FROM nomad_parents") == 1
    await pool.execute("UPDATE nomad_parents SET last_used_at = now() - interval '1 year'")
    await dispatcher.parents.remove_idle()
    assert await pool.fetchval("SELECT count(*) FROM nomad_parents") == 0


async def test_the_window_bounds_jobs_of_all_resources_together(
    nomad_settings: Settings, pool: Pool, gateway: NomadGateway, group: GroupOfTest
) -> None:
    await make_node(pool, group, cores=4, memory_mb=8000)
    for extra_mb in range(30):
        await make_jobs(pool, group, 5, memory_mb=1000 + extra_mb)
    narrow = nomad_settings.model_copy(update={"window_max": 8})
    async with dispatching(narrow, pool, gateway) as dispatcher:
        dispatched = 0
        for _ in range(20):
            dispatched += await dispatcher.feeder.feed_once()
            await pool.execute("UPDATE attempts SET waiting_reason = 'no room'")
        assert dispatched == 8


async def test_groups_share_the_room_equally(
    nomad_settings: Settings, pool: Pool, gateway: NomadGateway, group: GroupOfTest
) -> None:
    other = await make_group(pool, "other")
    for each in (group, other):
        await make_node(pool, each, cores=120, memory_mb=1_000_000)
        await make_jobs(pool, each, 300)
    narrow = nomad_settings.model_copy(update={"window_max": 40})
    async with dispatching(narrow, pool, gateway) as dispatcher:
        for _ in range(3):
            assert await dispatcher.feeder.feed_once() == 40
            found = await pool.fetch(
                "SELECT group_id, count(*) FROM jobs WHERE state = 'submitted' GROUP BY 1"
            )
            assert len({row["count"] for row in found}) == 1
            assert len(found) == 2
            await pool.execute("UPDATE attempts SET allocation_id = 'somewhere'")
        # A group that needs less than its part leaves the rest to the other.
        await pool.execute(
            "UPDATE jobs SET state = 'completed', ended_at = now() WHERE group_id = $1", other.id
        )
        await make_jobs(pool, other, 5)
        before = await pool.fetchval("SELECT count(*) FROM attempts")
        await dispatcher.feeder.feed_once()
        await dispatcher.feeder.feed_once()
        assert await pool.fetchval("SELECT count(*) FROM attempts") - before == 40


async def test_equal_jobs_are_spread_over_a_few_parent_jobs(
    dispatcher: Dispatching, pool: Pool, group: GroupOfTest
) -> None:
    await make_node(pool, group, cores=64, memory_mb=500_000)
    await make_jobs(pool, group, 64)
    assert await dispatcher.feeder.feed_once() == 64
    children = await pool.fetch("SELECT nomad_job_id FROM attempts")
    parents = [row["nomad_job_id"].partition("/")[0] for row in children]
    # There are eight. The chance that two of them get none is one in some millions.
    assert len(set(parents)) in (7, 8)
    assert await pool.fetchval("SELECT count(*) FROM nomad_parents") == len(set(parents))
