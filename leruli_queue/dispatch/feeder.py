"""The feeder: keeps a window of each group's backlog dispatched to Nomad.

In two steps that can each be repeated: a claim is committed (the job is submitted, its attempt
exists), then the attempt is dispatched under its own idempotency token and Nomad's answer is
committed. An attempt without a committed answer is dispatched again, by this process or the next.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import defaultdict
from collections.abc import Collection, Hashable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any
from uuid import UUID

import structlog

from leruli_queue.dispatch.choosing import choose_nodes, may_choose
from leruli_queue.dispatch.leadership import Leadership
from leruli_queue.dispatch.load import Load, loads_by_group
from leruli_queue.dispatch.nodes import GroupNodes, usable_nodes
from leruli_queue.dispatch.parents import Parents
from leruli_queue.dispatch.setbacks import SURROUNDINGS, Setbacks
from leruli_queue.dispatch.window import Window
from leruli_queue.jobs.attempts import AttemptId
from leruli_queue.jobs.giving_up import Loss, give_up
from leruli_queue.jobs.retries import Retries
from leruli_queue.nomad.errors import NomadAwayError, NomadError, NomadNotFoundError
from leruli_queue.nomad.gateway import NomadGateway
from leruli_queue.nomad.names import attempt_token
from leruli_queue.nomad.templates import ParentSpec
from leruli_queue.settings import Settings
from leruli_queue.store.pool import Connection, Pool
from leruli_queue.store.queries import queries, rows

log = structlog.get_logger(__name__)

_CERTAIN_AFTER = 3
# A statement for each of a hundred answers a second costs more than what is written. What waits for
# it is only what the API says: the job may run meanwhile.
_TOGETHER_S = 0.05
MOST_SIZES = 100
"""Of one user in one look at the backlog: each costs as much as some jobs."""


@dataclass(frozen=True)
class Claim:
    """An attempt that Nomad has to hear of."""

    attempt: AttemptId
    spec: ParentSpec
    nodes: GroupNodes
    # An earlier call for it may have reached Nomad, or may still be under way there.
    repeated: bool


@dataclass(frozen=True)
class _Dispatched:
    """What Nomad has taken an attempt as."""

    attempt: AttemptId
    child_id: str


class Feeder:
    """Moves jobs from the backlog of a cluster's groups into its Nomad."""

    def __init__(
        self,
        settings: Settings,
        pool: Pool,
        leadership: Leadership,
        gateway: NomadGateway,
        parents: Parents,
    ) -> None:
        self._settings = settings
        self._pool = pool
        self._leadership = leadership
        self._gateway = gateway
        self._cluster = gateway.cluster.name
        self._parents = parents
        self._windows: defaultdict[int, Window] = defaultdict(
            lambda: Window(settings.window_min, settings.window_max)
        )
        # By group id.
        self._setbacks = Setbacks()
        self._looks = 0
        # When the last look at the backlog ended, and how long it took.
        self._looked_at = 0.0
        self._look_s = 0.0

    async def run(self) -> None:
        """Feed for ever."""
        while True:
            dispatched = await self.feed_once()
            await asyncio.sleep(self._pause_s(dispatched))

    def _pause_s(self, dispatched: int) -> float:
        """Return the seconds until the next look.

        With a full window only a freed slot makes room, which takes longer. After a dispatch the
        next look comes sooner, but not at once: it costs as much for one job as for many, and the
        window holds enough until then. Except after one of so many that a look is due anyway: then
        slots are free, and nothing waits in Nomad. With very many in flight a look is long; it
        takes a quarter of the time at most.
        """
        interval_s, least_s = self._settings.feed_interval_s, 3 * self._look_s
        if not dispatched:
            return interval_s
        if time.monotonic() - self._looked_at > max(interval_s, least_s):
            return 0
        return max(interval_s / 4, least_s)

    async def feed_once(self) -> int:
        """Dispatch what is claimed already and what fits the windows; return how many.

        Raises
        ------
        NomadError
            When there was something to dispatch and nothing could be. What one attempt meets does
            not stop the others; it stays claimed, and is dispatched again in a later round. What
            one group meets does not stop the other groups: it is logged, and that group waits.
        """
        began = time.monotonic()
        nodes = await usable_nodes(self._pool, self._cluster, self._settings.node_unseen_s)
        held = self._setbacks.held()
        claims = [
            *await self._left_over(nodes, held),
            *await self._claim_probes(nodes, held),
            *await self._claim(nodes, held),
        ]
        self._looked_at = time.monotonic()
        self._look_s = self._looked_at - began
        if not claims:
            return 0
        places = asyncio.Semaphore(self._settings.dispatch_concurrency)
        answered: asyncio.Queue[_Dispatched | None] = asyncio.Queue()

        async def dispatch(claim: Claim) -> None:
            async with places:
                answered.put_nowait(_Dispatched(claim.attempt, await self._tell_nomad(claim)))

        async with asyncio.TaskGroup() as both:
            both.create_task(self._write_down(answered))
            results = await asyncio.gather(*(dispatch(c) for c in claims), return_exceptions=True)
            answered.put_nowait(None)
        return self._count_dispatched(claims, results)

    def _count_dispatched(
        self, claims: Sequence[Claim], results: Sequence[BaseException | None]
    ) -> int:
        failures = [result for result in results if result is not None]
        refusals = []
        defects: dict[int, BaseException] = {}
        for claim, failure in zip(claims, results, strict=True):
            if isinstance(failure, NomadError):
                refusals.append(failure)
            elif isinstance(failure, SURROUNDINGS) or not isinstance(failure, Exception | None):
                raise failure
            elif failure is not None:
                defects.setdefault(claim.nodes.group_id, failure)
        for group_id in {claim.nodes.group_id for claim in claims}:
            if group_id in defects:
                self._setbacks.failed(group_id, "dispatching", defects[group_id])
            else:
                self._setbacks.worked(group_id, "dispatching")
        if refusals and len(failures) == len(claims):
            raise refusals[0]
        for why in {str(refusal) for refusal in refusals}:
            log.warning("dispatches failed and will be repeated", why=why)
        return len(claims) - len(failures)

    async def _left_over(
        self, nodes: dict[int, GroupNodes], held: Collection[Hashable]
    ) -> list[Claim]:
        found = await rows(
            queries.undispatched_attempts(
                self._pool,
                cluster=self._cluster,
                held_groups=list(held),
                limit=self._settings.window_max,
            )
        )
        choices = await choose_nodes(self._pool, self._cluster, found, nodes)
        claims: list[Claim] = []
        stale: defaultdict[int, list[AttemptId]] = defaultdict(list)
        for row in found:
            attempt = AttemptId(row["job_id"], row["number"])
            choice = choices.get(attempt)
            chosen = choice and choice.of_set(row["node_set"])
            if chosen:
                claims.append(_claim(row, chosen, repeated=True))
            elif not row["started"]:
                stale[row["group_id"]].append(attempt)
            elif choice:
                claims.append(_claim(row, choice.usual, repeated=True))
        # Nobody can tell whether Nomad has these for nodes that are gone: taken back. The start of
        # such an attempt will be refused, and the reconciler removes the child if there is one.
        for group_id, attempts in stale.items():
            await self._take_back(group_id, attempts)
        return claims

    async def _claim_probes(
        self, nodes: dict[int, GroupNodes], held: Collection[Hashable]
    ) -> list[Claim]:
        """Claim a job for each node that is held back and due for a probe."""
        if not any(node.held for group in nodes.values() for node in group.nodes):
            return []
        claims = []
        for row in await rows(queries.nodes_to_probe(self._pool, cluster=self._cluster)):
            group = nodes.get(row["group_id"])
            probed = group.only(row["id"]) if group else None
            if probed is None or row["group_id"] in held:
                continue
            with self._setbacks.apart(row["group_id"], "probing"):
                async with self._leadership.connection() as connection:
                    found = await queries.claim_probe(
                        connection,
                        node_id=row["id"],
                        cluster=self._cluster,
                        node_set=probed.digest,
                        pause_s=self._settings.node_probe_s,
                    )
                if found:
                    log.info("node is probed", node=str(row["id"]), job=str(found["job_id"]))
                    claims.append(_claim(found, probed, repeated=False))
        return claims

    async def _take_back(self, group_id: int, stale: Iterable[AttemptId]) -> None:
        losses = [Loss.taken_back(attempt, "the nodes of the group changed") for attempt in stale]
        with self._setbacks.apart(group_id, "taking back"):
            await give_up(self._pool, losses, Retries.of(self._settings))

    async def _claim(self, nodes: dict[int, GroupNodes], held: Collection[Hashable]) -> list[Claim]:
        """Claim for each group that has nodes and a backlog, in equal parts of the room."""
        groups = [
            nodes[row["id"]]
            for row in await rows(queries.groups_with_backlog(self._pool, cluster=self._cluster))
            if row["id"] in nodes and nodes[row["id"]].node_ids and row["id"] not in held
        ]
        if not groups:
            return []
        loads = await loads_by_group(self._pool, self._cluster)
        room = self._settings.window_max - sum(load.waiting for load in loads.values())
        # What one leaves of its part is the next one's. Each is the first in its turn.
        self._looks += 1
        first = self._looks % len(groups)
        claims: list[list[Claim]] = []
        for position, group in enumerate([*groups[first:], *groups[:first]]):
            part = math.ceil(room / (len(groups) - position))
            with self._setbacks.apart(group.group_id, "claiming"):
                claims.append(await self._claim_for(group, loads[group.group_id], part))
                room -= len(claims[-1])
        return _in_turns(claims)

    async def _claim_for(self, nodes: GroupNodes, load: Load, room: int) -> list[Claim]:
        """Claim what fits the window of a group, and what is free on its nodes.

        Parameters
        ----------
        room
            How many more may wait in Nomad for a place; below 1, none but the smallest window.
        """
        window = self._windows[nodes.group_id]
        size = window.size(load.waiting)
        full = [shape for shape, count in load.shapes.items() if count >= size]
        fullest = max((count for count in load.shapes.values() if count < size), default=0)
        # However many wait over all groups, none is kept from its smallest window.
        limit = min(size - fullest, max(room, self._settings.window_min - load.waiting))
        # What is free takes them at once: how fast others found a place does not matter.
        free_cores, free_memory_mb = load.free(nodes) if room > 0 else (0, 0)
        at_most = max(limit, room if free_cores else 0)
        if at_most <= 0:
            return []
        async with self._leadership.connection() as connection, connection.transaction():
            found = await rows(
                queries.claim_jobs(
                    connection,
                    group_id=nodes.group_id,
                    cluster=self._cluster,
                    node_set=nodes.digest,
                    full_cores=[cores for cores, _ in full],
                    full_memories=[memory_mb for _, memory_mb in full],
                    limit=limit,
                    at_most=at_most,
                    free_cores=free_cores,
                    free_memory_mb=free_memory_mb,
                    memory_steps=list(nodes.memory_steps),
                    most_sizes=MOST_SIZES,
                )
            )
            chosen = await self._avoid(connection, found, nodes)
        window.dispatched(len(found))
        return [_claim(row, chosen.get(row["job_id"], nodes), repeated=False) for row in found]

    async def _avoid(
        self, connection: Connection, claimed: Sequence[Any], nodes: GroupNodes
    ) -> dict[UUID, GroupNodes]:
        """Have jobs that some nodes failed avoid these; return the nodes of such jobs."""
        again = [{**row, "group_id": nodes.group_id} for row in claimed if row["number"] > 1]
        if not again or not await may_choose(connection, nodes.group_id):
            return {}
        choices = await choose_nodes(connection, self._cluster, again, {nodes.group_id: nodes})
        few = {attempt: choice.chosen for attempt, choice in choices.items() if choice.chosen.few}
        await queries.set_node_sets(
            connection,
            job_ids=[attempt.job_id for attempt in few],
            numbers=[attempt.number for attempt in few],
            node_sets=[chosen.digest for chosen in few.values()],
        )
        return {attempt.job_id: chosen for attempt, chosen in few.items()}

    async def _write_down(self, answered: asyncio.Queue[_Dispatched | None]) -> None:
        """Write down what Nomad has taken, until None comes.

        What comes within a short time, and while the last was written, goes in one statement, so
        Nomad never waits for the disk of the database. What a crash leaves unwritten is dispatched
        again under its token.
        """
        more = True
        while more:
            came = [await answered.get()]
            with suppress(TimeoutError):
                async with asyncio.timeout(_TOGETHER_S):
                    while came[-1] is not None:
                        came.append(await answered.get())
            more = came[-1] is not None
            dispatched = [each for each in came if each]
            if dispatched:
                await queries.note_dispatched(
                    self._pool,
                    job_ids=[each.attempt.job_id for each in dispatched],
                    numbers=[each.attempt.number for each in dispatched],
                    nomad_job_ids=[each.child_id for each in dispatched],
                )

    async def _tell_nomad(self, claim: Claim) -> str:
        """Dispatch under the attempt's token until the child's id is certain."""
        token = attempt_token(claim.attempt)
        meta = {"job": str(claim.attempt.job_id), "attempt": str(claim.attempt.number)}
        for _ in range(_CERTAIN_AFTER):
            parent_id = await self._parents.ensure(claim.spec, claim.nodes)
            try:
                answer = await self._gateway.dispatch(
                    parent_id, meta, id_prefix=token, idempotency_token=token
                )
            except NomadNotFoundError:
                self._parents.forget(parent_id)
                continue
            # The first call for an attempt tells the truth. After one whose answer was lost, only
            # an answer that knows the token does: the loser of two calls is told a false id.
            if answer.repeated or not claim.repeated:
                return answer.child_id
        raise NomadAwayError("a dispatch did not become certain")


def _in_turns(of_groups: Iterable[Sequence[Claim]]) -> list[Claim]:
    """Return the claims of several groups as one list, in which the groups take turns."""
    return [claim for turn in zip_longest(*of_groups) for claim in turn if claim]


def _claim(row: Any, nodes: GroupNodes, *, repeated: bool) -> Claim:
    return Claim(
        AttemptId(row["job_id"], row["number"]),
        ParentSpec.of(
            nodes.group_key_id, nodes.hiding_key, row, nodes.digest if nodes.few else None
        ),
        nodes,
        repeated,
    )
