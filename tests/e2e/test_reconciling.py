"""The comparison with a Nomad that has placed jobs; tests/integration has one without nodes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import pytest
from e2e_world import GATED, StackOfTest

from leruli_queue.dispatch.fence import Fence
from leruli_queue.dispatch.maintenance import Maintenance
from leruli_queue.embedded.folders import Folders
from leruli_queue.embedded.service import service_environment
from leruli_queue.embedded.state import load_state
from leruli_queue.jobs.attempts import AttemptId
from leruli_queue.nomad import gateway as gateway_module
from leruli_queue.nomad.clusters import DEFAULT, read_clusters
from leruli_queue.nomad.gateway import NomadGateway
from leruli_queue.nomad.names import PARENT_PREFIX, attempt_of_child
from leruli_queue.settings import PREFIX, Settings
from leruli_queue.store.pool import Pool, open_pool
from leruli_queue.store.queries import queries, rows


@pytest.fixture
def settings(stack: StackOfTest) -> Settings:
    """What the stack's own dispatcher was started with."""
    folders = Folders(stack.data)
    environment = service_environment(folders, load_state(folders.secrets))
    ours = {name.removeprefix(PREFIX).lower(): value for name, value in environment.items()}
    return Settings(**{name: ours[name] for name in Settings.model_fields if name in ours})


@pytest.fixture
async def pool(settings: Settings) -> AsyncIterator[Pool]:
    async with open_pool(settings) as opened:
        yield opened


async def test_what_nobody_heard_of_is_found_in_the_lists(
    stack: StackOfTest,
    settings: Settings,
    pool: Pool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # One allocation a page, so that two that run take two.
    monkeypatch.setattr(gateway_module, "_PAGE", 1)
    jobs: dict[str, UUID] = {}
    for name, command in (("over", "true"), ("first", GATED), ("second", GATED)):
        folder = tmp_path / name
        folder.mkdir()
        stack.submit(folder, command)
        jobs[name] = UUID((folder / "leruli.job").read_text().strip())
        stack.wait_for_state(folder, "completed" if name == "over" else "running")
    before = {
        name: await pool.fetchrow("SELECT * FROM attempts WHERE job_id = $1", job_id)
        for name, job_id in jobs.items()
    }
    gateway = NomadGateway(read_clusters(settings)[DEFAULT])
    try:
        alive = await gateway.list_alive_allocations(PARENT_PREFIX)
        running = {AttemptId(jobs["first"], 1), AttemptId(jobs["second"], 1)}
        assert {attempt_of_child(allocation["JobID"]) for allocation in alive} == running
        children = await gateway.list_alive_children(PARENT_PREFIX)
        assert {attempt_of_child(child["ID"]) for child in children} == running
        assert await gateway.allocations_of(f"{children[0]['ParentID']}/dispatch-none") == []

        await pool.execute(
            "UPDATE attempts SET allocation_id = NULL, allocation_dead_at = NULL, ended_at = NULL "
            "WHERE job_id = ANY($1::uuid[])",
            list(jobs.values()),
        )
        await pool.execute("UPDATE jobs SET state = 'running' WHERE id = $1", jobs["over"])
        maintenance = Maintenance(settings, pool, gateway, Fence(settings, pool, gateway))
        await maintenance.reconciler.compare()
        for name, job_id in jobs.items():
            noted = await pool.fetchrow("SELECT * FROM attempts WHERE job_id = $1", job_id)
            assert noted["allocation_id"] == before[name]["allocation_id"]
            assert (noted["allocation_dead_at"] is not None) == (name == "over")
    finally:
        await gateway.close()
        await pool.execute("UPDATE jobs SET state = 'completed' WHERE id = $1", jobs["over"])
        await pool.execute(
            "UPDATE attempts SET ended_at = $2 WHERE job_id = $1",
            jobs["over"],
            before["over"]["ended_at"],
        )
    for name in ("first", "second"):
        ended = await asyncio.to_thread(stack.end_gated, tmp_path / name)
        assert ended == ("completed", None)


async def test_what_was_dispatched_goes_on_without_its_parent(
    stack: StackOfTest, settings: Settings, pool: Pool, tmp_path: Path
) -> None:
    """H4: parents leave Nomad for newer ones while their jobs run there and wait there."""
    running, waiting = tmp_path / "running", tmp_path / "waiting"
    for folder, command in ((running, GATED), (waiting, "echo done")):
        folder.mkdir()
        await asyncio.to_thread(stack.submit, folder, command, "--cores", "2")
        if folder == running:
            await asyncio.to_thread(stack.wait_for_state, running, "running")
    waiting_id = UUID((waiting / "leruli.job").read_text().strip())
    for _ in range(200):
        if await pool.fetchval("SELECT nomad_job_id FROM attempts WHERE job_id = $1", waiting_id):
            break
        await asyncio.sleep(0.1)
    gateway = NomadGateway(read_clusters(settings)[DEFAULT])
    try:
        for parent in await rows(
            queries.idle_parents(pool, cluster=DEFAULT, idle_s=0, few_idle_s=0, limit=500)
        ):
            await gateway.purge_parent(parent["id"])
        found = gateway._client.jobs.request(params={"prefix": PARENT_PREFIX}, method="get").json()
        assert all(job["ParentID"] for job in found)
    finally:
        await gateway.close()
    assert await asyncio.to_thread(stack.end_gated, running) == ("completed", None)
    assert await asyncio.to_thread(stack.end, waiting) == ("completed", None)
    assert await pool.fetchval("SELECT attempt FROM jobs WHERE id = $1", waiting_id) == 1
