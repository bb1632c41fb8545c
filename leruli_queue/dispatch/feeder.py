"""The feeder: keeps a window of each group's backlog dispatched to Nomad.

In two steps that can each be repeated: a claim is committed (the job is submitted, its attempt
exists), then the attempt is dispatched under its own idempotency token and Nomad's answer is
committed. An attempt without a committed answer is dispatched again, by this process or the next.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import structlog

from leruli_queue.dispatch.leadership import Leadership
from leruli_queue.dispatch.nodes import GroupNodes, usable_nodes
from leruli_queue.dispatch.parents import Parents
from leruli_queue.dispatch.window import Window
from leruli_queue.jobs.attempts import AttemptId
from leruli_queue.jobs.giving_up import Loss, give_up
from leruli_queue.nomad.gateway import NomadAwayError, NomadError, NomadGateway, NomadNotFoundError
from leruli_queue.nomad.names import attempt_token
from leruli_queue.nomad.templates import ParentSpec
from leruli_queue.settings import Settings
from leruli_queue.store.pool import Pool
from leruli_queue.store.queries import queries, rows

log = structlog.get_logger(__name__)

_CERTAIN_AFTER = 3


@dataclass(frozen=True)
class Claim:
    """An attempt that Nomad has to hear of."""

    attempt: AttemptId
    spec: ParentSpec
    nodes: GroupNodes
    # An earlier call for it may have reached Nomad, or may still be under way there.
    repeated: bool


class Feeder:
    """Moves jobs from the backlog into Nomad."""

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
        self._parents = parents
        self._windows: defaultdict[int, Window] = defaultdict(
            lambda: Window(settings.window_min, settings.window_max)
        )

    async def run(self) -> None:
        """Feed for ever."""
        while True:
            dispatched = await self.feed_once()
            # With a full window only a freed slot makes room, which takes longer than this.
            await asyncio.sleep(0 if dispatched else self._settings.feed_interval_s)

    async def feed_once(self) -> int:
        """Dispatch what is claimed already and what fits the windows; return how many."""
        nodes = await usable_nodes(self._pool)
        claims = await self._left_over(nodes) or await self._claim(nodes)
        if not claims:
            return 0
        places = asyncio.Semaphore(self._settings.dispatch_concurrency)

        async def dispatch(claim: Claim) -> None:
            async with places:
                await self._dispatch(claim)

        async with asyncio.TaskGroup() as tasks:
            for claim in claims:
                tasks.create_task(dispatch(claim))
        return len(claims)

    async def _left_over(self, nodes: dict[int, GroupNodes]) -> list[Claim]:
        found = await rows(
            queries.undispatched_attempts(self._pool, limit=self._settings.window_max)
        )
        stale = [row for row in found if not _same_nodes(row, nodes)]
        if stale:
            # Nobody can tell whether Nomad has it for nodes that are gone: take it back. A start
            # of this attempt will be refused, and the reconciler removes the child if there is one.
            await give_up(
                self._pool,
                [
                    Loss(
                        AttemptId(row["job_id"], row["number"]),
                        "the nodes of the group changed",
                        counts=False,
                    )
                    for row in stale
                ],
                max_attempts=self._settings.max_attempts,
            )
        return [
            _claim(row, nodes[row["group_id"]], repeated=True)
            for row in found
            if _same_nodes(row, nodes)
        ]

    async def _claim(self, nodes: dict[int, GroupNodes]) -> list[Claim]:
        claims: list[Claim] = []
        room_left = self._settings.window_max
        for group in await rows(queries.groups_with_backlog(self._pool)):
            group_nodes = nodes.get(group["id"])
            if group_nodes is None:
                continue
            window = self._windows[group["id"]]
            room = min(window.room(group["waiting"]), room_left)
            if room <= 0:
                continue
            async with self._leadership.connection() as connection:
                found = await rows(
                    queries.claim_jobs(
                        connection,
                        group_id=group["id"],
                        node_set=group_nodes.digest,
                        limit=room,
                    )
                )
            window.dispatched(len(found))
            room_left -= len(found)
            claims.extend(_claim(row, group_nodes, repeated=False) for row in found)
        return claims

    async def _dispatch(self, claim: Claim) -> None:
        try:
            child_id = await self._tell_nomad(claim)
        except NomadAwayError:
            raise  # the attempt stays claimed; the dispatcher waits for Nomad and comes back to it
        except NomadError as error:
            log.error("Nomad refused a dispatch", job=str(claim.attempt.job_id), why=str(error))
            await give_up(
                self._pool,
                [Loss(claim.attempt, "the cluster manager refused it", counts=True)],
                max_attempts=self._settings.max_attempts,
            )
            return
        await queries.note_dispatched(
            self._pool,
            job_id=claim.attempt.job_id,
            number=claim.attempt.number,
            nomad_job_id=child_id,
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


def _same_nodes(row: Any, nodes: dict[int, GroupNodes]) -> bool:
    group_nodes = nodes.get(row["group_id"])
    return group_nodes is not None and group_nodes.digest == row["node_set"]


def _claim(row: Any, nodes: GroupNodes, *, repeated: bool) -> Claim:
    return Claim(
        AttemptId(row["job_id"], row["number"]),
        ParentSpec(nodes.group_key_id, row["code"], row["version"], row["cores"], row["memory_mb"]),
        nodes,
        repeated,
    )
