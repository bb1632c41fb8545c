"""An active dispatcher whose duties a test runs step by step."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from service_world import GroupOfTest

from leruli_queue.access.authenticate import Node
from leruli_queue.dispatch.feeder import Feeder
from leruli_queue.dispatch.fence import Fence
from leruli_queue.dispatch.leadership import lead
from leruli_queue.dispatch.maintenance import Maintenance
from leruli_queue.dispatch.parents import Parents
from leruli_queue.dispatch.stopper import Stopper
from leruli_queue.naming import pool_name
from leruli_queue.nomad.errors import NomadNotFoundError
from leruli_queue.nomad.gateway import NomadGateway
from leruli_queue.nomad.names import PARENT_PREFIX, attempt_of_child
from leruli_queue.settings import Settings
from leruli_queue.store.pool import Pool


@dataclass
class Dispatching:
    """The duties of one active dispatcher, to be run step by step."""

    feeder: Feeder
    stopper: Stopper
    maintenance: Maintenance
    fence: Fence
    parents: Parents
    gateway: NomadGateway


@contextlib.asynccontextmanager
async def dispatching(
    settings: Settings, pool: Pool, gateway: NomadGateway
) -> AsyncIterator[Dispatching]:
    async with lead(settings) as leadership:
        parents = Parents(pool, gateway, settings)
        fence = Fence(settings, pool, gateway)
        yield Dispatching(
            Feeder(settings, pool, leadership, gateway, parents),
            Stopper(pool, gateway),
            Maintenance(settings, pool, gateway, fence),
            fence,
            parents,
            gateway,
        )


async def children_of(gateway: NomadGateway, job_id: UUID) -> list[dict[str, Any]]:
    """All child jobs that Nomad has for a job, dead ones too."""
    found = await gateway._call(
        lambda: gateway._client.jobs.request(
            params={"prefix": PARENT_PREFIX, "meta": "true"}, method="get"
        ).json()
    )
    return [
        child
        for child in found
        if (attempt := attempt_of_child(child["ID"])) and attempt.job_id == job_id
    ]


async def until_dead(gateway: NomadGateway, job_id: UUID) -> None:
    """Wait until Nomad lists a child job as dead, which it does a moment after the stop."""
    for _ in range(100):
        if any(child["Status"] == "dead" for child in await children_of(gateway, job_id)):
            return
        await asyncio.sleep(0.1)
    raise AssertionError("Nomad did not stop it")


async def stop_child(gateway: NomadGateway, job_id: UUID) -> None:
    """Stop the only child job of a job, as an operator may."""
    [child] = await children_of(gateway, job_id)
    await gateway.stop_job(child["ID"])
    await until_dead(gateway, job_id)


class Listing:
    """A FAKE of a Nomad with clients: it lists the nodes that a test wants."""

    def __init__(self, gateway: NomadGateway, nodes: list[dict[str, Any]]) -> None:
        self._gateway = gateway
        self.nodes = nodes
        self.after_one_question: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._gateway, name)

    async def list_nodes(self) -> list[dict[str, Any]]:
        return self.nodes

    async def set_eligible(self, node_id: UUID, *, eligible: bool) -> None:
        [node] = [node for node in self.nodes if node["ID"] == str(node_id)]
        node["SchedulingEligibility"] = "eligible" if eligible else "ineligible"

    async def read_allocation(self, allocation_id: str) -> dict[str, Any]:
        for node in self.nodes:
            node.update(self.after_one_question)
        raise NomadNotFoundError(allocation_id)


async def listed(pool: Pool, group: GroupOfTest, node: Node) -> dict[str, Any]:
    """The node as Nomad lists a healthy one."""
    key_id = await pool.fetchval("SELECT token_key_id FROM groups WHERE id = $1", group.id)
    return {
        "ID": str(node.id),
        "NodePool": pool_name(key_id),
        "Status": "ready",
        "SchedulingEligibility": "eligible",
        "Drain": False,
        "Drivers": {"leruli": {"Healthy": True}},
    }
