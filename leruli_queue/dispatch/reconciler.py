"""The reconciler: compares the database with Nomad, and gives up what will not end by itself.

The database says what should be; Nomad's lists say what is.

=================================================  ==========================================
should be / is                                     done
=================================================  ==========================================
in flight / there, or over there                   its allocation is noted as an event would be
started / not in Nomad for a minute                the time for its receipt begins
not started / not in Nomad for a minute, or dead   given up
without any allocation
waiting, for nodes that are not the group's now    given back: dispatched again for these nodes
waiting, too large for every living node           given back: waits in the backlog for a larger one
a large job waits, and smaller ones do not         a node is kept for it
a node failed several jobs in a row                held back; released when it was the jobs
not in flight / alive in Nomad                     stopped there
placed, and its node does not ask for leave to     given up
start it for the grace time
over in Nomad, no receipt for the grace time,      given up
and its node does not say that it holds it
on a node that is silent for too long, in Nomad    asked once more; then given up and stopped;
(whatever it says of the allocation) and towards   not if it was started and no other node that is
us                                                 heard could run it: then it waits
=================================================  ==========================================

Nothing is given up on old knowledge alone: a dispatcher or a Nomad that was away for an hour has
not seen the nodes come back.

Nomad is asked for what is alive there, in lists, and singly only for what is in flight and not in
them: what it keeps of jobs that are over for a while costs neither side anything.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Container, Iterable, Mapping, Sequence
from typing import Any, TypeVar
from uuid import UUID

import structlog

from leruli_queue.dispatch.choosing import Choice, choose_nodes
from leruli_queue.dispatch.fence import Fence
from leruli_queue.dispatch.nodes import usable_nodes
from leruli_queue.dispatch.notes import note_observations
from leruli_queue.dispatch.observations import observe
from leruli_queue.dispatch.reservations import Reservations
from leruli_queue.dispatch.setbacks import Setbacks
from leruli_queue.jobs.attempts import AttemptId
from leruli_queue.jobs.giving_up import Loss, give_up
from leruli_queue.jobs.quarantine import Quarantine, review
from leruli_queue.jobs.retries import Retries
from leruli_queue.jobs.sizes import one_fits
from leruli_queue.nomad.errors import NomadNotFoundError
from leruli_queue.nomad.gateway import NomadGateway
from leruli_queue.nomad.names import PARENT_PREFIX, attempt_of_child
from leruli_queue.settings import Settings
from leruli_queue.store.pool import Pool
from leruli_queue.store.queries import queries, rows

log = structlog.get_logger(__name__)

_OVERDUE_EVERY_S = 2.0
# Of the gateway's threads; the dispatches go on meanwhile.
_READ_AT_ONCE = 4
# Between two looks at which nodes are heard.
_GIVEN_UP_AT_ONCE = 500
_BEFORE_ALL = UUID(int=0)

_Answer = TypeVar("_Answer")


class Reconciler:
    """Keeps the database and Nomad of one mind."""

    def __init__(
        self,
        settings: Settings,
        pool: Pool,
        gateway: NomadGateway,
        fence: Fence,
    ) -> None:
        self._settings = settings
        self._pool = pool
        self._gateway = gateway
        self._cluster = gateway.cluster.name
        self._fence = fence
        self.reservations = Reservations(settings, pool, self._cluster)
        self._quarantine = Quarantine.of(settings)
        self._comparing = asyncio.Lock()
        # By group id, and by step of a look.
        self._setbacks = Setbacks()

    async def run(self) -> None:
        """Look for what is overdue every few seconds, and compare in full every few minutes."""
        clock = asyncio.get_running_loop()
        next_comparison = clock.time() + self._settings.reconcile_interval_s
        while True:
            await self.look_once()
            if clock.time() >= next_comparison:
                await self._apart("comparing", self.compare)
                next_comparison = clock.time() + self._settings.reconcile_interval_s
            await asyncio.sleep(_OVERDUE_EVERY_S)

    async def look_once(self) -> None:
        """Look for what is overdue. A step that fails does not keep the others from their turn."""
        if await self._apart("fence", self._fence.keep):
            # On what the fence saw, and never on old knowledge.
            await self._apart("overdue", self._look_for_overdue)
        await self._apart("quarantine", self._review_nodes)
        await self._apart("reservations", self.reservations.renew)
        await self._apart("misplaced", self.give_back_misplaced)

    async def _review_nodes(self) -> None:
        await review(self._pool, self._quarantine)

    async def _look_for_overdue(self) -> None:
        await self.note_unheard()
        await self.give_up_overdue()

    async def _apart(self, step: str, work: Callable[[], Awaitable[None]]) -> bool:
        """Do a step unless it failed a moment ago; return whether it was done."""
        done = False
        if step not in self._setbacks.held():
            with self._setbacks.apart(step, step):
                await work()
                done = True
        return done

    async def _give_up_by_group(self, losses: Iterable[tuple[int, Loss]]) -> None:
        """Give up attempts, those of each group apart: what fails for one waits."""
        by_group: defaultdict[int, list[Loss]] = defaultdict(list)
        for group_id, loss in losses:
            by_group[group_id].append(loss)
        for group_id in by_group.keys() - self._setbacks.held():
            with self._setbacks.apart(group_id, "giving up"):
                await give_up(self._pool, by_group[group_id], Retries.of(self._settings))

    async def compare(self) -> None:
        """Compare all that is in flight with Nomad's lists."""
        async with self._comparing:
            # The database first: what is dispatched in between is then in Nomad and not in this
            # list, and an attempt that the database does not know yet is looked up again below.
            in_flight = {
                AttemptId(row["job_id"], row["number"]): row
                for row in await rows(queries.attempts_in_flight(self._pool, cluster=self._cluster))
            }
            children = await self._gateway.list_alive_children(PARENT_PREFIX)
            allocations = await self._gateway.list_alive_allocations(PARENT_PREFIX)
            alive = {
                attempt: child["ID"]
                for child in children
                if (attempt := attempt_of_child(child["ID"]))
            }
            placed = {
                attempt
                for allocation in allocations
                if (attempt := attempt_of_child(allocation["JobID"]))
            }
            over, missing = await self._look_for(
                {
                    attempt: row["nomad_job_id"]
                    for attempt, row in in_flight.items()
                    if attempt not in placed and not (row["dead"] or row["nomad_job_id"] is None)
                },
                alive,
            )
            await self._note(in_flight, [*allocations, *over])
            await self._stop_strays(in_flight, alive)
            await self._give_up_missing(
                [(attempt, in_flight[attempt]) for attempt in missing if in_flight[attempt]["old"]]
            )

    async def note_unheard(self) -> None:
        """Note the silence of nodes that Nomad does not hear, whatever it says of what runs there.

        An allocation that is over stays so in Nomad when its node goes, and the node may still have
        the receipt of it.
        """
        await queries.note_unheard(
            self._pool, cluster=self._cluster, node_ids=list(self._fence.unheard)
        )

    async def give_up_overdue(self) -> None:
        """Give up attempts without a receipt or a beginning, and those on silent nodes.

        So many at a time: while Nomad is asked about thousands, nodes come back or go, and nothing
        is to be given up on what was known at the beginning.
        """
        after = _BEFORE_ALL
        while found := await self._overdue(after):
            await self._give_up(found)
            if len(found) < _GIVEN_UP_AT_ONCE:
                return
            after = found[-1]["job_id"]
            await self._fence.keep()
            await self.note_unheard()

    async def _overdue(self, after: UUID) -> list[Any]:
        return await rows(
            queries.overdue_attempts(
                self._pool,
                cluster=self._cluster,
                receipt_grace_s=self._settings.receipt_grace_s,
                reports_come_since=self._fence.reports_come_since,
                start_grace_s=self._settings.start_grace_s,
                node_silence_s=self._settings.node_silence_s,
                after=after,
                limit=_GIVEN_UP_AT_ONCE,
            )
        )

    async def _give_up(self, found: Sequence[Any]) -> None:
        silent = [row for row in found if row["silent"]]
        answers = await _few_at_once(self._is_back, (row["allocation_id"] for row in silent))
        back = {row["job_id"] for row, is_back in zip(silent, answers, strict=True) if is_back}
        losses = []
        for row in found:
            if row["job_id"] in back:
                continue
            if row["silent"]:
                reason = "its node does not answer"
            elif row["started"]:
                reason = "it ended without a receipt"
            else:
                reason = "its node did not begin with it"
            attempt = AttemptId(row["job_id"], row["number"])
            loss = Loss(attempt, reason, counts=row["started"], only_unstarted=not row["started"])
            losses.append((row["group_id"], loss))
        await self._give_up_by_group(losses)

    async def _is_back(self, allocation_id: str) -> bool:
        """Ask whether a node that was noted as silent still is; if not, note that."""
        try:
            seen = observe(await self._gateway.read_allocation(allocation_id))
        except NomadNotFoundError:
            return False
        if seen is None or seen.silent or seen.node_id in self._fence.unheard:
            return False
        await note_observations(self._pool, [seen])
        return True

    async def give_back_misplaced(self) -> None:
        """Take back what waits in Nomad for a node that it will not get.

        Its group's nodes are not those any more that it was dispatched for, or none that lives is
        large enough for it.
        """
        nodes = await usable_nodes(self._pool, self._cluster, self._settings.node_unseen_s)
        waiting = await rows(queries.attempts_without_a_place(self._pool, cluster=self._cluster))
        choices = await choose_nodes(self._pool, self._cluster, waiting, nodes)
        losses = []
        for row in waiting:
            attempt = AttemptId(row["job_id"], row["number"])
            reason = _why_misplaced(row, choices.get(attempt))
            if reason:
                losses.append((row["group_id"], Loss.taken_back(attempt, reason)))
        await self._give_up_by_group(losses)

    async def _look_for(
        self, unplaced: dict[AttemptId, str], alive: Mapping[AttemptId, str]
    ) -> tuple[list[dict[str, Any]], list[AttemptId]]:
        """Return the allocations of attempts that are over, and the attempts that have none.

        One that is alive without an allocation waits for a place and is neither.
        """
        found = await _few_at_once(self._gateway.allocations_of, unplaced.values())
        over = [allocation for allocations in found for allocation in allocations]
        missing = [
            attempt
            for attempt, allocations in zip(unplaced, found, strict=True)
            if not allocations and attempt not in alive
        ]
        return over, missing

    async def _note(
        self, in_flight: Container[AttemptId | None], allocations: Iterable[dict[str, Any]]
    ) -> None:
        ours = (
            seen
            for a in allocations
            if attempt_of_child(a["JobID"]) in in_flight
            if (seen := observe(a))
        )
        await note_observations(self._pool, ours)

    async def _stop_strays(
        self, in_flight: Container[AttemptId], alive: Mapping[AttemptId, str]
    ) -> None:
        """Stop children that are no current attempt: of a crash, or of another database."""
        unknown = [attempt for attempt in alive if attempt not in in_flight]
        if not unknown:
            return
        # Again: what was dispatched after the first look is no stray.
        current = {
            AttemptId(row["job_id"], row["number"])
            for row in await rows(queries.attempts_in_flight(self._pool, cluster=self._cluster))
        }
        for attempt in unknown:
            if attempt not in current:
                log.warning("stray child stopped", job=str(attempt.job_id), attempt=attempt.number)
                await self._gateway.stop_job(alive[attempt])

    async def _give_up_missing(self, missing: Sequence[tuple[AttemptId, Any]]) -> None:
        started = [attempt for attempt, row in missing if row["started_at"] is not None]
        await queries.note_gone(
            self._pool,
            job_ids=[attempt.job_id for attempt in started],
            numbers=[attempt.number for attempt in started],
        )
        why = "the cluster manager lost it"
        await self._give_up_by_group(
            (row["group_id"], Loss(attempt, why, counts=False, only_unstarted=True))
            for attempt, row in missing
            if row["started_at"] is None
        )


async def _few_at_once(
    ask: Callable[[str], Awaitable[_Answer]], ids: Iterable[str]
) -> list[_Answer]:
    """Ask Nomad about each of these, a few at the same time; the answers are in their order."""
    places = asyncio.Semaphore(_READ_AT_ONCE)

    async def ask_in_turn(one: str) -> _Answer:
        async with places:
            return await ask(one)

    return await asyncio.gather(*(ask_in_turn(one) for one in ids))


def _why_misplaced(row: Any, choice: Choice | None) -> str | None:
    # While a node is kept, what was dispatched before may still go there: few, and they end.
    if choice is None or not choice.may_wait(row["node_set"]):
        return "the nodes of the group changed"
    sizes = choice.chosen.sizes if choice.is_probe else choice.usual.sizes
    if not one_fits(sizes, row["cores"], row["nomad_memory_mb"]):
        return "no machine that is large enough is connected any more"
    return None
