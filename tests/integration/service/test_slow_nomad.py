"""A real Nomad server that does not answer: a signal stops it, and it goes on later."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from uuid import uuid4

import httpx
import pytest
from dispatch_world import Dispatching, children_of, dispatching
from nomad_world import NomadOfTest
from service_world import GroupOfTest, make_jobs

from leruli_queue.access.authenticate import Node
from leruli_queue.nomad.errors import NomadAwayError, NomadError
from leruli_queue.nomad.gateway import NomadGateway
from leruli_queue.settings import Settings
from leruli_queue.store.pool import Pool

JOBS = 20


@pytest.fixture
async def with_short_timeout(
    nomad_settings: Settings, pool: Pool, gateway: NomadGateway
) -> AsyncIterator[Dispatching]:
    made = NomadGateway(replace(gateway.cluster, timeout_s=1.0))
    async with dispatching(nomad_settings, pool, made) as active:
        yield active
    await made.close()


@contextmanager
def frozen(nomad: NomadOfTest) -> Iterator[None]:
    process = nomad.part.process
    assert process is not None
    os.kill(process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process.pid, signal.SIGCONT)


async def test_while_nomad_hangs_jobs_are_received_and_few_are_claimed(
    with_short_timeout: Dispatching,
    nomad: NomadOfTest,
    nomad_settings: Settings,
    pool: Pool,
    service: httpx.AsyncClient,
    group: GroupOfTest,
    node: Node,
) -> None:
    # The parent job is made while Nomad answers, so that the dispatch itself hangs.
    [first] = await make_jobs(pool, group, 1)
    await with_short_timeout.feeder.feed_once()
    jobs = await make_jobs(pool, group, JOBS)
    with frozen(nomad):
        for _ in range(2):
            with pytest.raises(NomadAwayError):
                await with_short_timeout.feeder.feed_once()
            body = {"secret": group.user_secret, "bucketid": str(uuid4()), "codeversion": "a:1"}
            assert (await service.post("/v22_1/task-submit", json=body)).status_code == 200
    claimed = await pool.fetchval("SELECT count(*) FROM attempts")
    assert 1 < claimed <= nomad_settings.window_min

    # Nomad now reads the earlier calls from its sockets. Nobody waits for these answers.
    for _ in range(20):
        try:
            await with_short_timeout.feeder.feed_once()
        except NomadError:
            continue
        if not await pool.fetchval("SELECT count(*) FROM attempts WHERE nomad_job_id IS NULL"):
            break
    noted = {
        row["job_id"]: row["nomad_job_id"]
        for row in await pool.fetch("SELECT job_id, nomad_job_id FROM attempts")
    }
    assert len(noted) == nomad_settings.window_min
    for job_id in (first, *jobs):
        children = await children_of(with_short_timeout.gateway, job_id)
        assert [child["ID"] for child in children] == ([noted[job_id]] if job_id in noted else [])
