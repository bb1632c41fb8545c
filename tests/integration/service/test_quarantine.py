"""A node that fails its jobs is quarantined and probed; its jobs run on other nodes."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import httpx
import pytest
from dispatch_world import Dispatching, children_of
from service_world import (
    GroupOfTest,
    call,
    claim_jobs,
    make_group,
    make_jobs,
    make_node,
    make_node_with_token,
    state_of,
    until_blocked,
)

from leruli_queue.access.authenticate import Node
from leruli_queue.dispatch.nodes import usable_nodes
from leruli_queue.jobs.attempts import AttemptId, StaleAttemptError, start_attempt
from leruli_queue.jobs.outcomes import Outcome, Receipt
from leruli_queue.jobs.quarantine import Quarantine, review
from leruli_queue.jobs.receipts import end_attempt
from leruli_queue.jobs.retries import Retries
from leruli_queue.nodes.administer import NamedNode, remove_from_group
from leruli_queue.nomad.clusters import DEFAULT
from leruli_queue.store.pool import Pool
from leruli_queue.store.queries import queries

RULE = Quarantine(failures=3, pause_s=60.0, most_pause_s=300.0)
RETRIES = Retries(5, 0.0, RULE)
TROUBLE = Receipt(Outcome.NODE_TROUBLE, message="the container could not be started: no runc")
UNKNOWN = Receipt(Outcome.IMAGE_UNKNOWN, message="image psi4:1.3.2 is not published")
DONE = Receipt(Outcome.ENDED, 0, uploaded_files=1)


async def run(pool: Pool, node: Node, job_id: UUID, receipt: Receipt) -> tuple[str, str | None]:
    """Run one attempt of the job on this node with this receipt; return the job's state."""
    await begin(pool, node, job_id)
    return await end(pool, node, job_id, receipt)


async def begin(pool: Pool, node: Node, job_id: UUID) -> None:
    number = await pool.fetchval(
        "WITH claimed AS (UPDATE jobs SET state = 'submitted', attempt = attempt + 1,"
        " node_id = NULL, reason = NULL WHERE id = $1 AND state = 'received' RETURNING id, attempt)"
        " INSERT INTO attempts (job_id, number, node_set) SELECT id, attempt, 'set' FROM claimed"
        " RETURNING number",
        job_id,
    )
    await start_attempt(pool, node, AttemptId(job_id, number), f"start-key-{number}")


async def end(pool: Pool, node: Node, job_id: UUID, receipt: Receipt) -> tuple[str, str | None]:
    number = await pool.fetchval("SELECT attempt FROM jobs WHERE id = $1", job_id)
    async with pool.acquire() as connection:
        await end_attempt(connection, node, AttemptId(job_id, number), receipt, RETRIES)
    return await state_of(pool, job_id)


async def held(pool: Pool) -> list[UUID]:
    found = await pool.fetch("SELECT id FROM nodes WHERE held_at IS NOT NULL ORDER BY id")
    return [row["id"] for row in found]


async def fail_three(pool: Pool, group: GroupOfTest, node: Node, **changes: Any) -> list[UUID]:
    jobs = await make_jobs(pool, group, 3, **changes)
    for job_id in jobs:
        await run(pool, node, job_id, TROUBLE)
    return jobs


@pytest.fixture
async def pair(pool: Pool, group: GroupOfTest) -> tuple[Node, Node]:
    return await make_node(pool, group), await make_node(pool, group)


async def test_a_node_that_fails_different_jobs_in_a_row_is_quarantined(
    pool: Pool, group: GroupOfTest, pair: tuple[Node, Node]
) -> None:
    """H5: a node that fails every job gets no more jobs; its last failure does not cost a job."""
    broken, _ = pair
    jobs = await fail_three(pool, group, broken)
    assert await held(pool) == [broken.id]
    lost = await pool.fetch("SELECT lost_attempts FROM jobs ORDER BY id")
    assert [row["lost_attempts"] for row in lost] == [1, 1, 0]
    assert broken.id not in (await usable_nodes(pool, DEFAULT))[group.id].node_ids
    with pytest.raises(StaleAttemptError, match="failed several jobs in a row"):
        await begin(pool, broken, jobs[0])


async def test_repeated_failures_of_one_job_do_not_count_against_its_node(
    pool: Pool, group: GroupOfTest, pair: tuple[Node, Node]
) -> None:
    """H5: a job that always fails quarantines no node."""
    [job_id] = await make_jobs(pool, group, 1)
    for _ in range(4):
        await run(pool, pair[0], job_id, TROUBLE)
    assert await held(pool) == []


async def test_failures_that_a_command_can_forge_do_not_count_against_its_node(
    pool: Pool, group: GroupOfTest, pair: tuple[Node, Node]
) -> None:
    """H5: users can cause exit codes, TERM signals and lost buckets, so these do not quarantine."""
    for receipt in (
        Receipt(Outcome.NODE_TROUBLE, 255, message="the container was killed"),
        Receipt(Outcome.STOPPED, 143),
        Receipt(Outcome.UPLOAD_FAILED, 0),
    ):
        for job_id in await make_jobs(pool, group, 4):
            await run(pool, pair[0], job_id, receipt)
    assert await held(pool) == []


async def test_jobs_that_fail_everywhere_are_not_the_nodes_fault(
    pool: Pool, group: GroupOfTest
) -> None:
    """H5: jobs that no node can start quarantine a node only until a second node fails them."""
    nodes = [await make_node(pool, group) for _ in range(4)]
    jobs = await fail_three(pool, group, nodes[0])
    assert await held(pool) == [nodes[0].id]
    await run(pool, nodes[1], jobs[0], TROUBLE)
    await review(pool, RULE)
    assert await held(pool) == []
    # These jobs are suspects from now on, on every node.
    await run(pool, nodes[1], jobs[1], TROUBLE)
    await run(pool, nodes[1], jobs[2], TROUBLE)
    await review(pool, RULE)
    assert await held(pool) == []


async def test_more_than_half_of_a_group_is_never_quarantined(
    pool: Pool, group: GroupOfTest
) -> None:
    """H5: if most nodes fail, the nodes are not the cause."""
    nodes = [await make_node(pool, group) for _ in range(4)]
    for node in nodes:
        await fail_three(pool, group, node)
    assert len(await held(pool)) == 2


async def test_no_job_fails_for_good_while_nothing_of_its_group_succeeds(
    pool: Pool, group: GroupOfTest
) -> None:
    """H5: the store is away for all nodes for hours, and every job survives."""
    nodes = [await make_node(pool, group) for _ in range(6)]
    jobs = await make_jobs(pool, group, 3)
    away = Receipt(Outcome.NODE_TROUBLE, message="the node could not reach the group's store")
    for turn in range(8):
        for position, job_id in enumerate(jobs):
            free = [node for node in nodes if node.id not in await held(pool)]
            await run(pool, free[(turn + position) % len(free)], job_id, away)
    assert {(await state_of(pool, job_id))[0] for job_id in jobs} == {"received"}
    # Another job succeeds and this one still fails: the job is the cause.
    [good] = await make_jobs(pool, group, 1)
    free = [node for node in nodes if node.id not in await held(pool)]
    assert (await run(pool, free[0], good, DONE))[0] == "completed"
    state, reason = await run(pool, free[1], jobs[0], away)
    assert (state, str(reason)[-27:]) == ("failed", "; given up after 5 attempts")


async def test_the_only_node_of_a_group_is_quarantined_and_costs_no_job(
    pool: Pool, group: GroupOfTest
) -> None:
    """H5: a group's only node is broken over night: it is probed, and its jobs wait."""
    node = await make_node(pool, group)
    jobs = await fail_three(pool, group, node)
    assert await held(pool) == [node.id]
    for _ in range(9):
        [row] = await probe(pool, node)
        await start_attempt(pool, node, AttemptId(row["job_id"], row["number"]), "start-key-9")
        await end(pool, node, row["job_id"], TROUBLE)
    assert {(await state_of(pool, job_id))[0] for job_id in jobs} == {"received"}


async def probe(pool: Pool, node: Node) -> list[Any]:
    """Claim the node's next probe, whenever it is due."""
    await pool.execute("UPDATE nodes SET probe_at = now() WHERE held_at IS NOT NULL")
    await pool.execute("UPDATE jobs SET not_before = NULL")
    found = []
    async for row in queries.nodes_to_probe(pool, cluster=DEFAULT):
        assert row["id"] == node.id
        found.append(
            await queries.claim_probe(
                pool, node_id=node.id, cluster=DEFAULT, node_set="one", pause_s=RULE.pause_s
            )
        )
    return [row for row in found if row]


async def test_a_probe_that_ends_by_itself_releases_the_node(
    pool: Pool, group: GroupOfTest, pair: tuple[Node, Node]
) -> None:
    """H5: one probe at a time, with a job that no node failed. A failure doubles the pause."""
    broken, _ = pair
    failed = await fail_three(pool, group, broken)
    fresh = await make_jobs(pool, group, 2)
    [row] = await probe(pool, broken)
    assert row["job_id"] in fresh
    assert row["job_id"] not in failed
    assert await probe(pool, broken) == []  # one is under way
    await start_attempt(pool, broken, AttemptId(row["job_id"], row["number"]), "start-key-1")
    await end(pool, broken, row["job_id"], TROUBLE)
    pause = await pool.fetchval(
        "SELECT extract(epoch FROM probe_at - now()) FROM nodes WHERE id = $1", broken.id
    )
    assert 110 < pause <= 120
    assert await pool.fetchval("SELECT max(lost_attempts) FROM jobs WHERE id = ANY($1)", fresh) == 0
    [row] = await probe(pool, broken)
    await start_attempt(pool, broken, AttemptId(row["job_id"], row["number"]), "start-key-2")
    ended = Receipt(Outcome.ENDED, 7)
    assert (await end(pool, broken, row["job_id"], ended))[0] == "failed"
    assert await held(pool) == []


async def test_large_jobs_of_another_node_do_not_keep_a_node_from_its_probe(
    pool: Pool, group: GroupOfTest
) -> None:
    """H5: the first twenty of the only user were too large for the node: it was never probed."""
    node = await make_node(pool, group)
    for job_id in await fail_three(pool, group, node):
        await pool.execute("UPDATE jobs SET state = 'cancelled' WHERE id = $1", job_id)
    await make_jobs(pool, group, 25, cores=64)
    [small] = await make_jobs(pool, group, 1)
    assert [row["job_id"] for row in await probe(pool, node)] == [small]


async def test_a_probe_that_runs_for_long_releases_the_node(pool: Pool, group: GroupOfTest) -> None:
    """H5: if all jobs take days, a node would get one job at a time for days."""
    node = await make_node(pool, group)
    await fail_three(pool, group, node)
    [row] = await probe(pool, node)
    await start_attempt(pool, node, AttemptId(row["job_id"], row["number"]), "start-key-1")
    for running_s, expected in ((RULE.most_pause_s - 20, [node.id]), (RULE.most_pause_s + 20, [])):
        await pool.execute(
            "UPDATE jobs SET state = 'running', running_at = now() - make_interval(secs => $2)"
            " WHERE id = $1",
            row["job_id"],
            running_s,
        )
        await review(pool, RULE)
        assert await held(pool) == expected
    assert not await pool.fetchval("SELECT count(*) FROM node_failures")


async def test_jobs_started_before_the_trouble_do_not_release_a_node(
    pool: Pool, group: GroupOfTest, pair: tuple[Node, Node]
) -> None:
    """H5: on a node that lost its runc, jobs started before still succeed."""
    broken, _ = pair
    [old] = await make_jobs(pool, group, 1)
    await begin(pool, broken, old)
    await fail_three(pool, group, broken)
    assert (await end(pool, broken, old, DONE))[0] == "completed"
    assert await held(pool) == [broken.id]


async def test_a_success_clears_earlier_failures(
    pool: Pool, group: GroupOfTest, pair: tuple[Node, Node]
) -> None:
    """H5: only failures in a row count."""
    jobs = await make_jobs(pool, group, 5)
    for position, job_id in enumerate(jobs):
        await run(pool, pair[0], job_id, DONE if position == 2 else TROUBLE)
    assert await held(pool) == []


async def test_an_admin_resumes_a_quarantined_node(
    pool: Pool, group: GroupOfTest, service: httpx.AsyncClient, pair: tuple[Node, Node]
) -> None:
    """H5: the admin sees which node, since when, why, and its next probe, and ends it."""
    await fail_three(pool, group, pair[0])
    listed = await call(service, "group-nodes", grouptoken=group.token)
    [shown] = [node for node in listed["nodes"] if node["nodeid"] == str(pair[0].id)]
    assert (shown["standing"], shown["eligible"]) == ("troubled", False)
    assert shown["reason"] == (
        "it failed 3 jobs in a row, and is probed with one job at a time until the command of one "
        f"ends by itself; the last failure: {TROUBLE.message}"
    )
    assert shown["heldsince"] < shown["nextprobeat"]
    # Nomad is away in this test. It is called last, after all that counts is done.
    body = {"adminsecret": group.admin_secret, "node": str(pair[0].id)}
    await service.post("/v22_1/group-node-resume", json=body)
    assert await held(pool) == []
    assert await pool.fetchval("SELECT count(*) FROM node_failures") == 0


async def test_a_second_node_checks_what_one_node_says_of_an_image(
    pool: Pool, group: GroupOfTest, pair: tuple[Node, Node]
) -> None:
    """H5: a node with the settings of another S3 store fails no job by "image not published"."""
    lost, well = pair
    [job_id] = await make_jobs(pool, group, 1)
    state, reason = await run(pool, lost, job_id, UNKNOWN)
    assert (state, reason) == ("received", f"{UNKNOWN.message}; a second machine is asked")
    row = await pool.fetchrow("SELECT lost_attempts, not_before FROM jobs")
    assert (row["lost_attempts"], row["not_before"]) == (0, None)
    assert (await run(pool, well, job_id, DONE))[0] == "completed"
    assert await pool.fetchval("SELECT node_id FROM node_failures") == lost.id


async def test_two_nodes_that_report_the_same_are_trusted(
    pool: Pool, group: GroupOfTest, pair: tuple[Node, Node]
) -> None:
    """H5: a mistyped image name fails the job, with its sentence, and counts against no node."""
    [job_id] = await make_jobs(pool, group, 1)
    await run(pool, pair[0], job_id, UNKNOWN)
    assert await run(pool, pair[1], job_id, UNKNOWN) == ("failed", UNKNOWN.message)
    assert await pool.fetchval("SELECT count(*) FROM node_failures") == 0


async def test_a_job_does_not_return_to_its_doubted_node_for_ever(
    pool: Pool, group: GroupOfTest, pair: tuple[Node, Node]
) -> None:
    """H5: it was dispatched again at once, uncounted, while the second node had no room."""
    [job_id] = await make_jobs(pool, group, 1)
    for _ in range(RETRIES.max_attempts):
        assert (await run(pool, pair[0], job_id, UNKNOWN))[0] == "received"
    assert await run(pool, pair[0], job_id, UNKNOWN) == ("failed", UNKNOWN.message)


async def test_a_node_is_removed_while_its_jobs_receipt_counts_against_it(
    pool: Pool, group: GroupOfTest, pair: tuple[Node, Node]
) -> None:
    """H5: a deadlock, as a removal locked the node before its jobs, and a receipt the reverse."""
    [job_id] = await make_jobs(pool, group, 1)
    await begin(pool, pair[0], job_id)
    node = NamedNode(pair[0].id, "node", DEFAULT)
    async with pool.acquire() as receiving, pool.acquire() as removing:

        async def remove() -> int:
            async with removing.transaction():
                return await remove_from_group(removing, group.id, node, RETRIES)

        async with receiving.transaction():
            await queries.attempt_for_receipt(receiving, job_id=job_id, number=1)
            removal = asyncio.create_task(remove())
            await until_blocked(pool, 1)
            await queries.lock_node(receiving, node_id=node.id, job_id=job_id, number=1)
        assert await removal == 1


@pytest.mark.parametrize("other", [None, {"cores": 1}, {"alive": False}])
async def test_the_only_large_enough_node_is_trusted(
    pool: Pool, group: GroupOfTest, other: dict[str, Any] | None
) -> None:
    """H5: a report of the group's only large enough node is final."""
    node = await make_node(pool, group)
    if other is not None:
        second = await make_node(pool, group, cores=other.get("cores", 4))
        await pool.execute("UPDATE nodes SET alive = $2 WHERE id = $1", second.id, "cores" in other)
    [job_id] = await make_jobs(pool, group, 1, cores=2)
    assert await run(pool, node, job_id, UNKNOWN) == ("failed", UNKNOWN.message)


async def test_a_node_that_others_contradict_is_quarantined(
    dispatcher: Dispatching, pool: Pool, group: GroupOfTest, pair: tuple[Node, Node]
) -> None:
    """H5: if a job starts on one node, the other node that could not start it was at fault."""
    lost, well = pair
    for job_id in await make_jobs(pool, group, 3):
        await run(pool, lost, job_id, UNKNOWN)
        await begin(pool, well, job_id)
        await queries.note_running(
            pool,
            job_ids=[job_id],
            numbers=[2],
            node_ids=[well.id],
            times=[await pool.fetchval("SELECT now()")],
        )
    await review(pool, RULE)
    assert await held(pool) == [lost.id]
    reason = await pool.fetchval("SELECT held_reason FROM nodes WHERE id = $1", lost.id)
    assert reason == "it could not use an image or an input that another node could use"


async def test_a_job_does_not_go_back_to_the_node_that_failed_it(
    dispatcher: Dispatching, pool: Pool, group: GroupOfTest, node: Node
) -> None:
    """H5: its next attempt is dispatched for the other nodes only, on the real Nomad."""
    others = [await make_node(pool, group) for _ in range(2)]
    [job_id] = await make_jobs(pool, group, 1)
    await run(pool, node, job_id, TROUBLE)
    await pool.execute("UPDATE jobs SET not_before = NULL")
    assert await dispatcher.feeder.feed_once() == 1
    assert await allowed(dispatcher, job_id) == {str(other.id) for other in others}
    # It stays unplaced for these, and is not requeued.
    await dispatcher.maintenance.misplaced.requeue()
    assert (await state_of(pool, job_id))[0] == "submitted"


async def allowed(dispatcher: Dispatching, job_id: UUID) -> set[str]:
    """The nodes on which Nomad may place the job's newest child job."""
    child = max(await children_of(dispatcher.gateway, job_id), key=lambda one: one["CreateIndex"])
    job = await dispatcher.gateway._call(
        lambda: dispatcher.gateway._client.job.get_job(child["ID"])
    )
    [constraint] = [one for one in job["Constraints"] if one["LTarget"] == "${node.unique.id}"]
    return set(constraint["RTarget"].split(","))


async def test_a_job_goes_back_where_no_other_node_is_large_enough(
    dispatcher: Dispatching, pool: Pool, group: GroupOfTest, node: Node
) -> None:
    """H5: better the node that failed it than none."""
    small = await make_node(pool, group, cores=1)
    [job_id] = await make_jobs(pool, group, 1, cores=2)
    await run(pool, node, job_id, TROUBLE)
    await pool.execute("UPDATE jobs SET not_before = NULL")
    assert await dispatcher.feeder.feed_once() == 1
    assert await allowed(dispatcher, job_id) == {str(node.id), str(small.id)}


async def test_attempts_unplaced_on_a_quarantined_node_are_requeued(
    dispatcher: Dispatching, pool: Pool, group: GroupOfTest, node: Node
) -> None:
    """H5: they are dispatched for the others. The probe goes to that node and to no other."""
    other = await make_node(pool, group)
    [waiting] = await make_jobs(pool, group, 1)
    assert await dispatcher.feeder.feed_once() == 1
    assert await allowed(dispatcher, waiting) == {str(node.id), str(other.id)}
    await fail_three(pool, group, node)
    await dispatcher.maintenance.misplaced.requeue()
    await pool.execute(
        "UPDATE jobs SET not_before = now() + interval '1 hour' WHERE id <> $1", waiting
    )
    assert await dispatcher.feeder.feed_once() == 1
    assert await allowed(dispatcher, waiting) == {str(other.id)}
    [probing] = await make_jobs(pool, group, 1)
    await pool.execute("UPDATE nodes SET probe_at = now() WHERE held_at IS NOT NULL")
    assert await dispatcher.feeder.feed_once() == 1
    assert await allowed(dispatcher, probing) == {str(node.id)}
    await dispatcher.maintenance.misplaced.requeue()
    assert (await state_of(pool, probing))[0] == "submitted"
    # The dispatcher is killed before Nomad's answer is committed: same child job, same node.
    await pool.execute("UPDATE attempts SET nomad_job_id = NULL WHERE job_id = $1", probing)
    assert await dispatcher.feeder.feed_once() == 1
    assert len(await children_of(dispatcher.gateway, probing)) == 1


async def test_a_node_that_reports_its_own_trouble_gets_no_jobs(
    pool: Pool, group: GroupOfTest, service: httpx.AsyncClient
) -> None:
    """D1, D14: a wrong S3 key is the node's trouble; limits that it does not enforce are shown."""
    node, token = await make_node_with_token(pool, group)
    report = {"nodetoken": token, "unenforced": ["memory"]}
    trouble = "the group's object store does not take its S3 key (SignatureDoesNotMatch)"
    answer = await call(service, "node-report", trouble=trouble, **report)
    assert (answer["standing"], answer["reason"]) == ("troubled", trouble)
    assert (await usable_nodes(pool, DEFAULT))[group.id].node_ids == ()
    await make_jobs(pool, group, 1)
    assert await claim_jobs(pool, group, 5, free=(4, 8000)) == []
    answer = await call(service, "node-report", **report)
    assert (answer["standing"], answer["reason"]) == ("usable", None)
    assert (await usable_nodes(pool, DEFAULT))[group.id].node_ids == (node.id,)
    [shown] = (await call(service, "group-nodes", grouptoken=group.token))["nodes"]
    assert shown["unenforced"] == ["memory"]


async def test_another_groups_nodes_are_no_evidence(
    pool: Pool, group: GroupOfTest, pair: tuple[Node, Node]
) -> None:
    """H5: failures on one group's nodes quarantine no node of another group."""
    other = await make_group(pool, "physicists")
    foreign = await make_node(pool, other)
    await fail_three(pool, other, foreign)
    assert await held(pool) == [foreign.id]
