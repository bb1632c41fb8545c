"""The dispatcher against a real Nomad server. No node takes part: what is dispatched waits."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import pytest
from pydantic import SecretStr
from service_world import GroupOfTest, claim_jobs, make_jobs, make_node, make_user, state_of

from leruli_queue.access.authenticate import Node
from leruli_queue.dispatch import leadership
from leruli_queue.dispatch.dispatcher import dispatch_for_ever
from leruli_queue.dispatch.feeder import Feeder
from leruli_queue.dispatch.leadership import LeadershipLostError, lead
from leruli_queue.dispatch.nodes import usable_nodes
from leruli_queue.dispatch.parents import Parents
from leruli_queue.dispatch.reconciler import Reconciler
from leruli_queue.dispatch.stopper import Stopper
from leruli_queue.jobs.attempts import AttemptId
from leruli_queue.jobs.cancel import cancel_job
from leruli_queue.nomad.events import stream_events
from leruli_queue.nomad.gateway import DispatchAnswer, NomadAwayError, NomadError, NomadGateway
from leruli_queue.nomad.names import PARENT_PREFIX, attempt_of_child, attempt_token
from leruli_queue.settings import Settings
from leruli_queue.store.pool import Pool
from leruli_queue.store.queries import queries


@dataclass
class Dispatching:
    """The duties of one active dispatcher, to be run step by step."""

    feeder: Feeder
    stopper: Stopper
    reconciler: Reconciler
    parents: Parents
    gateway: NomadGateway


@contextlib.asynccontextmanager
async def dispatching(
    settings: Settings, pool: Pool, gateway: NomadGateway
) -> AsyncIterator[Dispatching]:
    async with lead(settings) as leadership:
        parents = Parents(pool, gateway, settings)
        yield Dispatching(
            Feeder(settings, pool, leadership, gateway, parents),
            Stopper(pool, gateway),
            Reconciler(settings, pool, gateway, parents),
            parents,
            gateway,
        )


@pytest.fixture
async def dispatcher(
    nomad_settings: Settings, pool: Pool, gateway: NomadGateway
) -> AsyncIterator[Dispatching]:
    async with dispatching(nomad_settings, pool, gateway) as active:
        yield active


@pytest.fixture
async def node(pool: Pool, group: GroupOfTest, gateway: NomadGateway) -> Node:
    made = await make_node(pool, group)
    key_id = await pool.fetchval("SELECT token_key_id FROM groups WHERE id = $1", group.id)
    assert await gateway.admit_node(made.id, f"group-{key_id}")
    return made


async def children_of(gateway: NomadGateway, job_id: UUID) -> list[dict[str, Any]]:
    """All children that Nomad has of a job, dead ones too."""
    return [
        child
        for child in await gateway.list_children(PARENT_PREFIX)
        if (attempt := attempt_of_child(child["ID"])) and attempt.job_id == job_id
    ]


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


async def test_without_a_node_nothing_is_dispatched(
    dispatcher: Dispatching, pool: Pool, group: GroupOfTest
) -> None:
    [job_id] = await make_jobs(pool, group, 1)
    assert await dispatcher.feeder.feed_once() == 0
    assert (await state_of(pool, job_id))[0] == "received"


async def test_killed_between_claim_and_dispatch(
    dispatcher: Dispatching, pool: Pool, group: GroupOfTest, node: Node
) -> None:
    [job_id] = await make_jobs(pool, group, 1)
    digest = (await _digest(pool))[group.id]
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


async def test_a_lost_answer_is_asked_for_again(
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


async def test_what_was_cancelled_is_stopped_in_nomad(
    dispatcher: Dispatching, pool: Pool, group: GroupOfTest, node: Node
) -> None:
    [job_id] = await make_jobs(pool, group, 1)
    await dispatcher.feeder.feed_once()
    await cancel_job(pool, await make_user(pool, group), job_id)
    assert await dispatcher.stopper.stop_once() == 1
    assert await dispatcher.stopper.stop_once() == 0
    [child] = await children_of(dispatcher.gateway, job_id)
    assert child["Status"] == "dead"


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
    await dispatcher.reconciler.compare()
    [gone] = await children_of(dispatcher.gateway, stray.job_id)
    assert gone["Status"] == "dead"
    [kept] = await children_of(dispatcher.gateway, job_id)
    assert kept["Status"] == "pending"


async def test_no_refusal_of_nomad_fails_a_job(
    nomad_settings: Settings, pool: Pool, gateway: NomadGateway, group: GroupOfTest, node: Node
) -> None:
    jobs = await make_jobs(pool, group, 20)
    locked_out = NomadGateway(
        nomad_settings.model_copy(update={"nomad_token": SecretStr(str(uuid4()))})
    )
    async with dispatching(nomad_settings, pool, locked_out) as active:
        for _ in range(10):
            with pytest.raises(NomadError, match="403"):
                await active.feeder.feed_once()
    locked_out.close()
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
    """A FAKE of a Nomad that has trouble with one attempt for ever, before the real one."""

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


async def test_wide_jobs_that_wait_do_not_keep_small_ones_out(
    dispatcher: Dispatching, pool: Pool, group: GroupOfTest, node: Node
) -> None:
    wide = await make_jobs(pool, group, 10, cores=4)
    small = await make_jobs(pool, group, 10)
    for _ in range(5):
        await dispatcher.feeder.feed_once()
    submitted = await pool.fetch("SELECT id FROM jobs WHERE state = 'submitted' ORDER BY id")
    assert [row["id"] for row in submitted] == [*wide[:4], *small[:4]]


async def test_a_child_that_is_dead_without_an_allocation_is_dispatched_again(
    dispatcher: Dispatching, pool: Pool, group: GroupOfTest, node: Node
) -> None:
    [job_id] = await make_jobs(pool, group, 1)
    await dispatcher.feeder.feed_once()
    [child] = await children_of(dispatcher.gateway, job_id)
    await dispatcher.gateway.stop_job(child["ID"])  # as an operator may
    await pool.execute("UPDATE attempts SET claimed_at = now() - interval '2 minutes'")
    await dispatcher.reconciler.compare()
    assert (await state_of(pool, job_id))[0] == "received"
    assert await pool.fetchval("SELECT lost_attempts FROM jobs") == 0


async def test_what_started_and_is_gone_from_nomad_gets_the_time_for_its_receipt(
    dispatcher: Dispatching, pool: Pool, group: GroupOfTest, node: Node
) -> None:
    [job_id] = await make_jobs(pool, group, 1)
    await dispatcher.feeder.feed_once()
    await pool.execute("UPDATE jobs SET state = 'running', started_at = now()")
    await pool.execute(
        "UPDATE attempts SET nomad_job_id = 'gone', claimed_at = now() - interval '2 minutes'"
    )
    await dispatcher.gateway.stop_job((await children_of(dispatcher.gateway, job_id))[0]["ID"])
    await dispatcher.reconciler.compare()
    assert (await state_of(pool, job_id))[0] == "running"
    assert await pool.fetchval("SELECT allocation_dead_at IS NOT NULL FROM attempts")


async def test_a_node_that_is_back_is_asked_before_its_job_is_given_up(
    nomad_settings: Settings, pool: Pool, gateway: NomadGateway, group: GroupOfTest, node: Node
) -> None:
    [job_id] = await make_jobs(pool, group, 1)

    class NodeIsBack:
        """A FAKE of a Nomad with a client: this server has none that could be silent."""

        def __getattr__(self, name: str) -> Any:
            return getattr(gateway, name)

        async def read_allocation(self, allocation_id: str) -> dict[str, Any]:
            [child] = await children_of(gateway, job_id)
            return {
                "ID": allocation_id,
                "JobID": child["ID"],
                "NodeID": str(node.id),
                "CreateIndex": 1,
                "ClientStatus": "running",
            }

    back: Any = NodeIsBack()
    async with dispatching(nomad_settings, pool, back) as active:
        await active.feeder.feed_once()
        await pool.execute(
            "UPDATE jobs SET state = 'running', started_at = now(), node_id = $1", node.id
        )
        await pool.execute(
            "UPDATE attempts SET silent_since = now() - interval '1 hour', allocation_id = 'a1'"
        )
        await active.reconciler.give_up_overdue()
        assert (await state_of(pool, job_id))[0] == "running"
        assert await pool.fetchval("SELECT silent_since FROM attempts") is None


async def test_a_silent_node_that_still_uploads_keeps_its_attempt(
    dispatcher: Dispatching, pool: Pool, group: GroupOfTest, node: Node
) -> None:
    [job_id] = await make_jobs(pool, group, 1)
    await dispatcher.feeder.feed_once()
    await pool.execute("UPDATE jobs SET state = 'running', started_at = now()")
    await pool.execute(
        "UPDATE attempts SET silent_since = now() - interval '1 hour', upload_at = now(), "
        "allocation_id = $1",
        str(uuid4()),
    )
    await dispatcher.reconciler.give_up_overdue()
    assert (await state_of(pool, job_id))[0] == "running"


async def test_what_nomad_lost_is_given_up_after_a_minute(
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
    await dispatcher.reconciler.compare()
    assert (await state_of(pool, job_id))[0] == "submitted"
    await pool.execute("UPDATE attempts SET claimed_at = now() - interval '2 minutes'")
    await dispatcher.reconciler.compare()
    assert await state_of(pool, job_id) == (
        "received",
        "the cluster manager lost it; it will run again",
    )


async def test_what_waits_for_nodes_that_are_gone_is_given_back(
    dispatcher: Dispatching, pool: Pool, group: GroupOfTest, node: Node
) -> None:
    [job_id] = await make_jobs(pool, group, 1)
    await dispatcher.feeder.feed_once()
    await dispatcher.reconciler.give_back_misplaced()
    assert (await state_of(pool, job_id))[0] == "submitted"
    await queries.node_leaves(pool, node_id=node.id)
    await make_node(pool, group)
    await dispatcher.reconciler.give_back_misplaced()
    assert (await state_of(pool, job_id))[0] == "received"
    assert await pool.fetchval("SELECT lost_attempts FROM jobs") == 0
    await dispatcher.stopper.stop_once()
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
async def test_what_is_overdue_is_given_up(
    dispatcher: Dispatching,
    pool: Pool,
    group: GroupOfTest,
    node: Node,
    change: str,
    reason: str,
) -> None:
    [job_id] = await make_jobs(pool, group, 1)
    await dispatcher.feeder.feed_once()
    await pool.execute("UPDATE jobs SET state = 'running', started_at = now()")
    await dispatcher.reconciler.give_up_overdue()
    assert (await state_of(pool, job_id))[0] == "running"
    await pool.execute(
        f"UPDATE attempts SET {change}, allocation_id = $1",  # noqa: S608
        str(uuid4()),
    )
    await dispatcher.reconciler.give_up_overdue()
    assert await state_of(pool, job_id) == ("received", f"{reason}; it will run again")


async def test_an_idle_parent_leaves_nomad(
    dispatcher: Dispatching, pool: Pool, group: GroupOfTest, node: Node
) -> None:
    await make_jobs(pool, group, 1)
    await dispatcher.feeder.feed_once()
    await dispatcher.parents.drop_idle()
    assert await pool.fetchval("SELECT count(*) FROM nomad_parents") == 1
    await pool.execute("UPDATE nomad_parents SET last_used_at = now() - interval '1 year'")
    await dispatcher.parents.drop_idle()
    assert await pool.fetchval("SELECT count(*) FROM nomad_parents") == 0


async def test_only_one_dispatcher_leads_and_another_takes_over(
    settings: Settings, pool: Pool
) -> None:
    entered: asyncio.Queue[int] = asyncio.Queue()

    async def candidate(number: int) -> None:
        async with lead(settings) as leadership:
            entered.put_nowait(number)
            await leadership.watch()

    tasks = [asyncio.create_task(candidate(number)) for number in (0, 1)]
    leader = await asyncio.wait_for(entered.get(), 5)
    await asyncio.sleep(1.5)
    assert entered.empty()
    await pool.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted"
    )
    assert await asyncio.wait_for(entered.get(), 5) == 1 - leader
    with pytest.raises(LeadershipLostError):
        await tasks[leader]
    tasks[1 - leader].cancel()


async def test_the_lock_of_a_leader_that_froze_is_taken_over(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leadership, "_IDLE_S", 2)

    async def second() -> bool:
        async with lead(settings):
            return True

    async with lead(settings):  # and asks for nothing, as if it were frozen
        assert await asyncio.wait_for(second(), 10)


async def test_a_dispatcher_that_lost_its_lock_can_claim_nothing(
    nomad_settings: Settings, pool: Pool, gateway: NomadGateway, group: GroupOfTest, node: Node
) -> None:
    [job_id] = await make_jobs(pool, group, 1)
    async with dispatching(nomad_settings, pool, gateway) as active:
        await pool.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
        )
        with pytest.raises(LeadershipLostError):
            await active.feeder.feed_once()
    assert (await state_of(pool, job_id))[0] == "received"


async def test_the_whole_dispatcher_survives_the_loss_of_its_database_connections(
    nomad_settings: Settings, pool: Pool, gateway: NomadGateway, group: GroupOfTest, node: Node
) -> None:
    work = asyncio.create_task(dispatch_for_ever(nomad_settings, pool))
    try:
        for _ in range(2):
            [job_id] = await make_jobs(pool, group, 1)
            for _ in range(200):
                await asyncio.sleep(0.1)
                assert not work.done()
                if (await state_of(pool, job_id))[0] == "submitted":
                    break
            else:
                pytest.fail("nothing is dispatched any more")
            await pool.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


async def test_a_stream_that_is_refused_is_noticed(nomad_settings: Settings) -> None:
    wrong = nomad_settings.model_copy(update={"nomad_token": SecretStr(str(uuid4()))})
    with pytest.raises(NomadAwayError, match="silent"):
        await anext(stream_events(wrong))


async def test_nomads_refusals_are_told_apart(gateway: NomadGateway, settings: Settings) -> None:
    with pytest.raises(NomadError, match="400"):
        await gateway.parse_job("job {", "")
    nowhere = NomadGateway(settings)
    with pytest.raises(NomadAwayError):
        await nowhere.list_children(PARENT_PREFIX)
    nowhere.close()


async def _digest(pool: Pool) -> dict[int, str]:
    return {group_id: nodes.digest for group_id, nodes in (await usable_nodes(pool)).items()}
