"""Parent jobs: registered when needed, again when the group's nodes change, gone when idle.

A group has a bounded number of them, whatever its jobs ask for. Nomad needs a parent only to
dispatch: one that leaves takes nothing with it, and is registered again when it is needed.
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

# How often the use of a parent is written down; far below the time after which it is idle.
_NOTE_USE_EVERY_S = 600.0
# Of parents of chosen nodes (leruli_queue.dispatch.choosing), which are of use for one trouble.
_FEW_IDLE_S = 3600.0
# Of a group that has as many as it may have, so many leave at once: a hundredth.
_SHARE_THAT_LEAVES = 100
_LOOK_FOR_IDLE_EVERY_S = 60.0
# Between two that leave for idleness: Nomad has other work.
_PAUSE_S = 0.1
_IDLE_AT_ONCE = 500


class Parents:
    """Knows which parents this process has registered, and for which nodes."""

    def __init__(self, pool: Pool, gateway: NomadGateway, settings: Settings) -> None:
        self._pool = pool
        self._gateway = gateway
        self._cluster = gateway.cluster.name
        self._settings = settings
        self._registered: dict[str, str] = {}  # parent id -> digest of its node set
        # When each was used, and when that was written down: by the clock of this process.
        self._used: dict[str, float] = {}
        self._noted: dict[str, float] = {}
        # A lock lives as long as somebody holds it or waits for it: of parents, and of groups.
        self._locks: WeakValueDictionary[str | int, asyncio.Lock] = WeakValueDictionary()

    async def run(self) -> None:
        """Let idle parents leave, for ever, and few in a second."""
        while True:
            await self.drop_idle()
            await asyncio.sleep(_LOOK_FOR_IDLE_EVERY_S)

    async def ensure(self, spec: ParentSpec, nodes: GroupNodes) -> str:
        """Make sure that the parent is registered for these nodes and return its id."""
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
        """Register the parent anew when it is needed next: Nomad does not have it."""
        self._registered.pop(parent_id, None)

    async def drop_idle(self) -> None:
        """Deregister the parents that no job has used for long."""
        while idle := await rows(
            queries.idle_parents(
                self._pool,
                cluster=self._cluster,
                idle_s=self._settings.parent_idle_s,
                few_idle_s=min(_FEW_IDLE_S, self._settings.parent_idle_s),
                limit=_IDLE_AT_ONCE,
            )
        ):
            for row in idle:
                await self._drop(row["id"])
                log.info("idle parent deregistered", parent=row["id"])
                await asyncio.sleep(_PAUSE_S)

    async def _note_use(self, parent_id: str, nodes: GroupNodes) -> None:
        """Write the use down, before a registration: a parent that nobody notes would never go."""
        now = time.monotonic()
        if now - self._noted.get(parent_id, -_NOTE_USE_EVERY_S) < _NOTE_USE_EVERY_S:
            self._used[parent_id] = now
            return
        use = {
            "id": parent_id,
            "cluster": self._cluster,
            "group_id": nodes.group_id,
            "few_nodes": nodes.few,
            "most": self._settings.group_parents,
        }
        if not await queries.use_parent(self._pool, **use):
            # One by one: each sees what the one before has made room for.
            async with self._lock(nodes.group_id):
                while not await queries.use_parent(self._pool, **use):
                    await self._make_room(nodes.group_id)
        self._used[parent_id] = self._noted[parent_id] = now

    async def _make_room(self, group_id: int) -> None:
        """Let those of a group leave that were used longest ago."""
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
        leave = max(1, self._settings.group_parents // _SHARE_THAT_LEAVES)
        oldest = await rows(
            queries.oldest_parents(
                self._pool,
                cluster=self._cluster,
                group_id=group_id,
                limit=leave + self._settings.dispatch_concurrency + 1,
            )
        )
        left = 0
        for row in oldest:
            # Whoever holds one may wait for the group's lock, which is held here. Looked at just
            # before it is taken: others had their turn while the one before left.
            if left < leave and not self._lock(row["id"]).locked():
                await self._drop(row["id"])
                left += 1
        log.info("parents used longest ago left for new ones", group=group_id, parents=left)

    async def _drop(self, parent_id: str) -> None:
        async with self._lock(parent_id):
            await self._gateway.purge_parent(parent_id)
            await queries.forget_parent(self._pool, id=parent_id, cluster=self._cluster)
            for known in (self._registered, self._used, self._noted):
                known.pop(parent_id, None)

    def _lock(self, of: str | int) -> asyncio.Lock:
        return self._locks.setdefault(of, asyncio.Lock())
