"""Maintenance: keeps the database and Nomad in agreement, a duty a file.

==================  ==================================  ===========================================
step                when                                effect
==================  ==================================  ===========================================
fence               every 2 seconds                     silent and drained nodes get no more jobs
overdue             after the fence                     attempts that will not end are abandoned
quarantine          every 2 seconds                     nodes that fail many jobs are quarantined
reservations        every 2 seconds                     a node is reserved for a large job
misplaced           every 2 seconds                     attempts that no node will take are requeued
events              every 2 seconds                     old events are deleted, in portions
batches             every 2 seconds                     changes are added to the counts of batches
follows             every 2 seconds                     jobs that nobody follows are forgotten
mail                every 2 seconds                     mail about batches is written, to be sent
comparing           LERULI_QUEUE_RECONCILE_INTERVAL_S,  the reconciler compares all that is in
                    and each time that the tracker      flight with Nomad's lists
                    connects
==================  ==================================  ===========================================

A step that fails does not stop the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from leruli_queue.dispatch.abandoner import Abandoner
from leruli_queue.dispatch.fence import Fence
from leruli_queue.dispatch.misplaced import Misplaced
from leruli_queue.dispatch.overdue import Overdue
from leruli_queue.dispatch.reconciler import Reconciler
from leruli_queue.dispatch.reservations import Reservations
from leruli_queue.dispatch.setbacks import Setbacks
from leruli_queue.jobs.batches import fold_batch_changes
from leruli_queue.jobs.events import delete_old_events
from leruli_queue.jobs.follow import delete_old_follows
from leruli_queue.jobs.quarantine import Quarantine, review
from leruli_queue.jobs.retries import Retries
from leruli_queue.mail.due import delete_old_mails, write_due_mails
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
        self._keep_events_s = settings.keep_events_s
        # By group id, and by the name of a step.
        self._setbacks = Setbacks()
        abandoner = Abandoner(pool, Retries.of(settings), self._setbacks)
        cluster = gateway.cluster.name
        self.reconciler = Reconciler(pool, gateway, abandoner, settings.slot_max_s)
        self.overdue = Overdue(settings, pool, gateway, fence, abandoner)
        self.misplaced = Misplaced(settings, pool, cluster, abandoner)
        self.reservations = Reservations(settings, pool, cluster)

    async def run(self) -> None:
        """Run the steps every few seconds, and compare in full every few minutes."""
        clock = asyncio.get_running_loop()
        next_comparison = clock.time() + self._compare_every_s
        while True:
            await self.run_once()
            if clock.time() >= next_comparison:
                await self._isolated("comparing", self.reconciler.compare)
                next_comparison = clock.time() + self._compare_every_s
            await asyncio.sleep(_EVERY_S)

    async def run_once(self) -> None:
        """Run each step once, except for the comparison."""
        if await self._isolated("fence", self._fence.enforce):
            # Only on what the fence has just seen, never on old knowledge.
            await self._isolated("overdue", self._abandon_overdue)
        await self._isolated("quarantine", self.review_nodes)
        await self._isolated("reservations", self.reservations.renew)
        await self._isolated("misplaced", self.misplaced.requeue)
        await self._isolated("events", self.delete_old_events)
        await self._isolated("batches", self.fold_batch_changes)
        await self._isolated("follows", self.delete_old_follows)
        await self._isolated("mail", self.write_mails)

    async def review_nodes(self) -> None:
        """Quarantine and release nodes that fail jobs; can be repeated."""
        await review(self._pool, self._quarantine)

    async def delete_old_events(self) -> None:
        """Delete events that are kept no longer; can be repeated."""
        await delete_old_events(self._pool, self._keep_events_s)

    async def fold_batch_changes(self) -> None:
        """Add changes of batches to their counts; can be repeated."""
        await fold_batch_changes(self._pool)

    async def delete_old_follows(self) -> None:
        """Forget jobs that nobody follows any more; can be repeated."""
        await delete_old_follows(self._pool)

    async def write_mails(self) -> None:
        """Write the mails about batches that are due, and delete old ones; can be repeated."""
        await write_due_mails(self._pool)
        await delete_old_mails(self._pool)

    async def _abandon_overdue(self) -> None:
        await self.overdue.note_unheard()
        await self.overdue.abandon()

    async def _isolated(self, step: str, work: Callable[[], Awaitable[None]]) -> bool:
        """Do a step unless it is paused after a failure; return whether it was done."""
        done = False
        if step not in self._setbacks.paused():
            with self._setbacks.isolate(step, step):
                await work()
                done = True
        return done
