"""Parent jobs: registered when needed, again when the group's nodes change, gone when idle."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict

import structlog

from leruli_queue.dispatch.nodes import GroupNodes
from leruli_queue.nodes.pools import pool_name
from leruli_queue.nomad.gateway import NomadGateway
from leruli_queue.nomad.templates import ParentSpec, render_parent
from leruli_queue.settings import Settings
from leruli_queue.store.pool import Pool
from leruli_queue.store.queries import queries, rows

log = structlog.get_logger(__name__)

# How often the use of a parent is written down; far below the time after which it is idle.
_NOTE_USE_EVERY_S = 600.0
# Of parents of chosen nodes (leruli_queue.dispatch.choosing), which are of use for one trouble.
_FEW_IDLE_S = 3600.0


class Parents:
    """Knows which parents this process has registered, and for which nodes."""

    def __init__(self, pool: Pool, gateway: NomadGateway, settings: Settings) -> None:
        self._pool = pool
        self._gateway = gateway
        self._cluster = gateway.cluster.name
        self._settings = settings
        self._registered: dict[str, str] = {}  # parent id -> digest of its node set
        self._noted: dict[str, float] = {}  # parent id -> when its use was written down
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def ensure(self, spec: ParentSpec, nodes: GroupNodes) -> str:
        """Make sure that the parent is registered for these nodes and return its id."""
        parent_id = spec.id
        async with self._locks[parent_id]:
            if (
                time.monotonic() - self._noted.get(parent_id, -_NOTE_USE_EVERY_S)
                >= _NOTE_USE_EVERY_S
            ):
                # Before it is registered: a parent that nobody notes would never be deregistered.
                await queries.use_parent(
                    self._pool,
                    id=parent_id,
                    cluster=self._cluster,
                    group_id=nodes.group_id,
                    few_nodes=nodes.few,
                )
                self._noted[parent_id] = time.monotonic()
            if self._registered.get(parent_id) != nodes.digest:
                await self._gateway.ensure_pool(pool_name(spec.group_key_id))
                job = await render_parent(self._gateway, spec, nodes.node_ids)
                await self._gateway.register_job(job)
                self._registered[parent_id] = nodes.digest
                log.info("parent registered", parent=parent_id, nodes=len(nodes.node_ids))
        return parent_id

    def forget(self, parent_id: str) -> None:
        """Register the parent anew when it is needed next: Nomad does not have it."""
        self._registered.pop(parent_id, None)

    async def drop_idle(self) -> None:
        """Deregister the parents that no job has used for long."""
        idle = await rows(
            queries.idle_parents(
                self._pool,
                cluster=self._cluster,
                idle_s=self._settings.parent_idle_s,
                few_idle_s=min(_FEW_IDLE_S, self._settings.parent_idle_s),
            )
        )
        for row in idle:
            parent_id = row["id"]
            async with self._locks[parent_id]:
                await self._gateway.stop_job(parent_id)
                await queries.forget_parent(self._pool, id=parent_id, cluster=self._cluster)
                self.forget(parent_id)
                self._noted.pop(parent_id, None)
            log.info("idle parent deregistered", parent=parent_id)
