"""Maintenance: keeps the database and Nomad in agreement, a duty a file.

==================  ==================================  ===========================================
step                when                                done
==================  ==================================  ===========================================
fence               every 2 seconds                     silent and drained nodes get no more jobs
overdue             after the fence                     attempts that will not end are given up
quarantine          every 2 seconds                     nodes that fail job after job are held back
reservations        every 2 seconds                     a node is reserved for a large job
misplaced           every 2 seconds                     attempts that wait in vain are taken back
comparing           LERULI_QUEUE_RECONCILE_INTERVAL_S,  the reconciler compares all that is in
                    and each time that the tracker      flight with Nomad's lists
                    connects
==================  ==================================  ===========================================

A step that fails does not keep the others from their turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from leruli_queue.dispatch.fence import Fence
from leruli_queue.dispatch.losses import Losses
from leruli_queue.dispatch.misplaced import Misplaced
from leruli_queue.dispatch.overdue import Overdue
from leruli_queue.dispatch.reconciler import Reconciler
from leruli_queue.dispatch.reservations import Reservations
from leruli_queue.dispatch.setbacks import Setbacks
from leruli_queue.jobs.quarantine import Quarantine, review
from leruli_queue.jobs.retries import Retries
from leruli_queue.nomad.gateway import NomadGateway
from leruli_queue.settings import Settings
from leruli_queue.store.pool import Pool

_EVERY_S = 2.0


class Maintenance:
    """Runs the steps, each when it is due."""

    def __init__(self, settings: Settings, pool: Pool, gateway: NomadGateway, fence: Fence) -> None:
        self._pool = pool
        self._compare_every_s = settings.reconcile_interval_s
        self._fence = fence
        self._quarantine = Quarantine.of(settings)
        # By group id, and by the name of a step.
        self._setbacks = Setbacks()
        losses = Losses(pool, Retries.of(settings), self._setbacks)
        cluster = gateway.cluster.name
        self.reconciler = Reconciler(pool, gateway, losses)
        self.overdue = Overdue(settings, pool, gateway, fence, losses)
        self.misplaced = Misplaced(settings, pool, cluster, losses)
        self.reservations = Reservations(settings, pool, cluster)

    async def run(self) -> None:
        """Run the steps every few seconds, and compare in full every few minutes."""
        clock = asyncio.get_running_loop()
        next_comparison = clock.time() + self._compare_every_s
        while True:
            await self.run_once()
            if clock.time() >= next_comparison:
                await self._apart("comparing", self.reconciler.compare)
                next_comparison = clock.time() + self._compare_every_s
            await asyncio.sleep(_EVERY_S)

    async def run_once(self) -> None:
        """Run each step once, but for the comparison."""
        if await self._apart("fence", self._fence.keep):
            # On what the fence saw, and never on old knowledge.
            await self._apart("overdue", self._give_up_overdue)
        await self._apart("quarantine", self.review_nodes)
        await self._apart("reservations", self.reservations.renew)
        await self._apart("misplaced", self.misplaced.take_back)

    async def review_nodes(self) -> None:
        """Hold back and release nodes that fail jobs; can be repeated."""
        await review(self._pool, self._quarantine)

    async def _give_up_overdue(self) -> None:
        await self.overdue.note_unheard()
        await self.overdue.give_up()

    async def _apart(self, step: str, work: Callable[[], Awaitable[None]]) -> bool:
        """Do a step unless it failed a moment ago; return whether it was done."""
        done = False
        if step not in self._setbacks.held():
            with self._setbacks.apart(step, step):
                await work()
                done = True
        return done
