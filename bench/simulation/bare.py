"""Nomad alone: a bare loop dispatches the same jobs, all of which it knows beforehand.

No dispatcher runs, and the loop neither watches nor records attempts. Parent jobs and nodes are the
same as with the dispatcher, and the simulated agents call the service as usual.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import httpx
import uvloop

from bench.simulation.cpu import used
from bench.simulation.workload import SimulatedJob, submit
from bench.simulation.world import World
from leruli_queue.dispatch.claims import MOST_COMBINATIONS
from leruli_queue.dispatch.nodes import GroupNodes, usable_nodes
from leruli_queue.dispatch.parents import Parents
from leruli_queue.embedded.service import service_environment
from leruli_queue.errors import SetupError
from leruli_queue.jobs.attempts import AttemptId
from leruli_queue.nomad.clusters import DEFAULT, read_clusters
from leruli_queue.nomad.gateway import NomadGateway
from leruli_queue.nomad.names import attempt_token
from leruli_queue.nomad.templates import ParentSpec
from leruli_queue.settings import PREFIX, Settings
from leruli_queue.store.pool import Pool, open_pool
from leruli_queue.store.queries import queries, rows

# Concurrent dispatches; more of them make Nomad no faster (reference, nomad-dispatch.md).
_AT_ONCE = 4
_POLL_S = 0.2


def bare_rate(
    world: World, jobs: Sequence[SimulatedJob], *, limit_s: float
) -> tuple[float, dict[str, float]]:
    """Dispatch jobs of one group; return placements per second, and CPU ms per job by part.

    The counterpart of bench.simulation.run.dispatch_rate, for a world without a dispatcher. The
    dispatcher holds back jobs that Nomad cannot place yet. Here all jobs are in Nomad at once, so
    the clock runs until all are placed.
    """
    submit(world.stack.port, world.groups, jobs, limit_s=limit_s)
    before = world.cpu_by_part()
    seconds = uvloop.run(_dispatch_all(world, len(jobs)))
    cpu = used(before, world.cpu_by_part())
    return len(jobs) / seconds, {part: 1000 * s / len(jobs) for part, s in cpu.items()}


async def _dispatch_all(world: World, count: int) -> float:
    settings = _settings(world)
    gateway = NomadGateway(read_clusters(settings)[DEFAULT])
    try:
        async with open_pool(settings) as pool:
            (nodes,) = (await usable_nodes(pool, DEFAULT)).values()
            claimed = await _claim(pool, nodes, count)
            parents = Parents(pool, gateway, settings)
            specs = [ParentSpec.of(nodes.group_key_id, nodes.hiding_key, row) for row in claimed]
            ids = {spec: await parents.ensure(spec, nodes) for spec in dict.fromkeys(specs)}
        attempts = [
            (ids[spec], AttemptId(row["job_id"], row["number"]))
            for spec, row in zip(specs, claimed, strict=True)
        ]
        return await _send(gateway, attempts)
    finally:
        await gateway.close()


def _settings(world: World) -> Settings:
    """Return the settings of this stack's dispatcher."""
    environment = service_environment(world.stack.folders, world.stack.state)
    named = {
        name.removeprefix(PREFIX).lower(): value
        for name, value in environment.items()
        if name.startswith(PREFIX)
    }
    return Settings.model_validate(named)


async def _claim(pool: Pool, nodes: GroupNodes, count: int) -> list[Any]:
    claimed = await rows(
        queries.claim_jobs(
            pool,
            group_id=nodes.group_id,
            cluster=DEFAULT,
            node_set=nodes.digest,
            full_cores=[],
            full_memories=[],
            limit=count,
            at_most=count,
            free_cores=nodes.cores,
            free_memory_mb=nodes.memory_mb,
            most_combinations=MOST_COMBINATIONS,
            memory_steps=list(nodes.memory_steps),
        )
    )
    if len(claimed) != count:
        raise SetupError(f"The database gave {len(claimed)} of {count} jobs to dispatch.")
    return claimed


async def _send(gateway: NomadGateway, attempts: Sequence[tuple[str, AttemptId]]) -> float:
    """Dispatch all attempts, each with its token; return the seconds until all are placed."""
    left = list(reversed(attempts))

    async def send() -> None:
        while left:
            parent_id, attempt = left.pop()
            token = attempt_token(attempt)
            meta = {"job": str(attempt.job_id), "attempt": str(attempt.number)}
            await gateway.dispatch(parent_id, meta, id_prefix=token, idempotency_token=token)

    cluster = gateway.cluster
    async with httpx.AsyncClient(
        base_url=cluster.address,
        headers={"X-Nomad-Token": cluster.token.get_secret_value() if cluster.token else ""},
        verify=cluster.tls(),
        timeout=cluster.timeout_s,
        trust_env=False,
    ) as http:
        began = time.monotonic()
        await asyncio.gather(*(send() for _ in range(_AT_ONCE)))
        for parent_id in dict.fromkeys(parent_id for parent_id, _ in attempts):
            await _wait_until_placed(http, parent_id, cluster.namespace)
        return time.monotonic() - began


async def _wait_until_placed(http: httpx.AsyncClient, parent_id: str, namespace: str) -> None:
    path = f"/v1/job/{quote(parent_id, safe='')}/summary"
    while True:
        answer = await http.get(path, params={"namespace": namespace})
        if answer.json()["Children"]["Pending"] == 0:
            return
        await asyncio.sleep(_POLL_S)
