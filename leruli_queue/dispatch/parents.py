"""Parent jobs: registered when needed and when the group's nodes change, removed when idle.

A group has a bounded number of them, whatever its jobs ask for. Nomad needs a parent job only to
dispatch. So removing one does not affect its child jobs, and it is registered again when needed.
"""

from __future__ import annotations

import asyncio
import time
from weakref import WeakValueDictionary

import structlog

from leruli_queue.dispatch.nodes import GroupNodes
from leruli_queue.naming import pool_name
from leruli_queue.nomad.gateway import NomadGateway
from leruli_queue.nomad.templates import ParentSpec, render_parent
from leruli_queue.settings import Settings
from leruli_queue.store.pool import Pool
from leruli_queue.store.queries import queries, rows

log = structlog.get_logger(__name__)

# How often the use of a parent job is written down; far below the time after which it is idle.
_NOTE_USE_EVERY_S = 600.0
# Idle time of parent jobs with a subset of the nodes (leruli_queue.dispatch.choosing): each helps
# with one failing node or job, for a short time.
_SUBSET_IDLE_S = 3600.0
# A group at its limit evicts this share of its parent jobs at once: a hundredth.
_EVICTED_SHARE = 100
_REMOVE_IDLE_EVERY_S = 60.0
# Between two removals of idle parent jobs: Nomad has other work.
_PAUSE_S = 0.1
_IDLE_AT_ONCE = 500


class Parents:
    """Knows which parent jobs this process has registered, and for which nodes."""

    def __init__(self, pool: Pool, gateway: NomadGateway, settings: Settings) -> None:
        self._pool = pool
        self._gateway = gateway
        self._cluster = gateway.cluster.name
        self._settings = settings
        self._registered: dict[str, str] = {}  # parent id -> digest of its node set
        # When each was used, and when that was written down, by the clock of this process.
        self._used: dict[str, float] = {}
        self._noted: dict[str, float] = {}
        # Locks of parent jobs and of groups. Each lives as long as a task holds it or waits for it.
        self._locks: WeakValueDictionary[str | int, asyncio.Lock] = WeakValueDictionary()

    async def run(self) -> None:
        """Remove idle parent jobs for ever, a few per second."""
        while True:
            await self.remove_idle()
            await asyncio.sleep(_REMOVE_IDLE_EVERY_S)

    async def ensure(self, spec: ParentSpec, nodes: GroupNodes) -> str:
        """Make sure that the parent job is registered for these nodes and return its id."""
        parent_id = spec.id
        async with self._lock(parent_id):
            await self._note_use(parent_id, nodes)
            if self._registered.get(parent_id) != nodes.digest:
                await self._gateway.ensure_pool(pool_name(spec.group_key_id))
                job = await render_parent(self._gateway, spec, nodes.node_ids)
                await self._gateway.register_job(job)
                self._registered[parent_id] = nodes.digest
                log.info("parent registered", parent=parent_id, nodes=len(nodes.node_ids))
        return parent_id

    def forget(self, parent_id: str) -> None:
        """Register the parent job again at its next use: Nomad does not have it."""
        self._registered.pop(parent_id, None)

    async def remove_idle(self) -> None:
        """Deregister the parent jobs that no job has used for long."""
        while idle := await rows(
            queries.idle_parents(
                self._pool,
                cluster=self._cluster,
                idle_s=self._settings.parent_idle_s,
                few_idle_s=min(_SUBSET_IDLE_S, self._settings.parent_idle_s),
                limit=_IDLE_AT_ONCE,
            )
        ):
            for row in idle:
                await self._remove(row["id"])
                log.info("idle parent deregistered", parent=row["id"])
                await asyncio.sleep(_PAUSE_S)

    async def _note_use(self, parent_id: str, nodes: GroupNodes) -> None:
        """Write down the use, before the registration: else a parent job could stay for ever."""
        now = time.monotonic()
        if now - self._noted.get(parent_id, -_NOTE_USE_EVERY_S) < _NOTE_USE_EVERY_S:
            self._used[parent_id] = now
            return
        use = {
            "id": parent_id,
            "cluster": self._cluster,
            "group_id": nodes.group_id,
            "few_nodes": nodes.is_subset,
            "most": self._settings.group_parents,
        }
        if not await queries.use_parent(self._pool, **use):
            # One task at a time: each sees the room that the one before it made.
            async with self._lock(nodes.group_id):
                while not await queries.use_parent(self._pool, **use):
                    await self._evict_oldest(nodes.group_id)
        self._used[parent_id] = self._noted[parent_id] = now

    async def _evict_oldest(self, group_id: int) -> None:
        """Remove the parent jobs of a group that were used longest ago."""
        now = time.monotonic()
        used_since = {
            parent_id: used
            for parent_id, used in self._used.items()
            if used > self._noted[parent_id]
        }
        await queries.note_parent_uses(
            self._pool,
            cluster=self._cluster,
            ids=list(used_since),
            agos_s=[now - used for used in used_since.values()],
        )
        self._noted |= used_since
        most = max(1, self._settings.group_parents // _EVICTED_SHARE)
        oldest = await rows(
            queries.oldest_parents(
                self._pool,
                cluster=self._cluster,
                group_id=group_id,
                limit=most + self._settings.dispatch_concurrency + 1,
            )
        )
        evicted = 0
        for row in oldest:
            # Skip locked ones: the holder may wait for the group's lock, which is held here. Check
            # each just before its removal: other tasks ran during the removal before it.
            if evicted < most and not self._lock(row["id"]).locked():
                await self._remove(row["id"])
                evicted += 1
        log.info("removed the parents used longest ago", group=group_id, parents=evicted)

    async def _remove(self, parent_id: str) -> None:
        async with self._lock(parent_id):
            await self._gateway.purge_parent(parent_id)
            await queries.forget_parent(self._pool, id=parent_id, cluster=self._cluster)
            for known in (self._registered, self._used, self._noted):
                known.pop(parent_id, None)

    def _lock(self, of: str | int) -> asyncio.Lock:
        return self._locks.setdefault(of, asyncio.Lock())
