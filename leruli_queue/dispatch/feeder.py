"""The feeder: keeps a window of each group's backlog dispatched to Nomad.

It works in two steps that can each be repeated:

1. A claim is committed: the job is submitted and its attempt exists (:mod:`.claims`).
2. The attempt is dispatched under its own idempotency token, and Nomad's answer is committed.

An attempt without a committed answer is dispatched again, by this process or the next.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import structlog

from leruli_queue.dispatch.claims import Claim, Claims
from leruli_queue.dispatch.leadership import Leadership
from leruli_queue.dispatch.nodes import usable_nodes
from leruli_queue.dispatch.parents import Parents
from leruli_queue.dispatch.setbacks import OUTAGES, Setbacks
from leruli_queue.jobs.attempts import AttemptId
from leruli_queue.nomad.errors import NomadAwayError, NomadError, NomadNotFoundError
from leruli_queue.nomad.gateway import NomadGateway
from leruli_queue.nomad.names import attempt_token
from leruli_queue.settings import Settings
from leruli_queue.store.pool import Pool
from leruli_queue.store.queries import queries

log = structlog.get_logger(__name__)

# Dispatches of one attempt in a row until the id of its child job must be certain.
_TRIES = 3
# Answers gathered for one statement. A statement for each of a hundred answers a second costs more
# than the rows that it writes. Only the API's answer is delayed: the job may run meanwhile.
_GATHER_S = 0.05


@dataclass(frozen=True)
class _Dispatched:
    """An attempt and the id of the child job that Nomad made for it."""

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
        self._gateway = gateway
        self._cluster = gateway.cluster.name
        self._parents = parents
        # By group id.
        self._setbacks = Setbacks()
        self._claims = Claims(settings, pool, leadership, self._cluster, self._setbacks)
        # When the last poll of the backlog ended, and how long it took.
        self._polled_at = 0.0
        self._poll_s = 0.0

    async def run(self) -> None:
        """Feed for ever."""
        while True:
            dispatched = await self.feed_once()
            await asyncio.sleep(self._pause_s(dispatched))

    def _pause_s(self, dispatched: int) -> float:
        """Return the seconds until the next poll.

        - Nothing was dispatched: the whole interval. The window is full, and slots free up slower.
        - Something was dispatched: a quarter of the interval. A poll costs as much for one job as
          for many, and the window holds enough until then.
        - Dispatching took longer than the interval: no pause. Slots are free and Nomad has no work
          queued.

        With very many jobs in flight a poll takes long. Polls take at most a quarter of the time.
        """
        interval_s, least_s = self._settings.feed_interval_s, 3 * self._poll_s
        if not dispatched:
            return interval_s
        if time.monotonic() - self._polled_at > max(interval_s, least_s):
            return 0
        return max(interval_s / 4, least_s)

    async def feed_once(self) -> int:
        """Dispatch earlier claims and what fits the windows; return how many were dispatched.

        An attempt that fails does not stop the others: it stays claimed, and a later round
        dispatches it again. A group that fails does not stop other groups: the failure is logged
        and the group is paused.

        Raises
        ------
        NomadError
            When every dispatch of the round failed.
        """
        began = time.monotonic()
        nodes = await usable_nodes(self._pool, self._cluster, self._settings.node_unseen_s)
        paused = self._setbacks.paused()
        claims = [
            *await self._claims.undispatched(nodes, paused),
            *await self._claims.probes(nodes, paused),
            *await self._claims.backlog(nodes, paused),
        ]
        self._polled_at = time.monotonic()
        self._poll_s = self._polled_at - began
        if not claims:
            return 0
        free_calls = asyncio.Semaphore(self._settings.dispatch_concurrency)
        answers: asyncio.Queue[_Dispatched | None] = asyncio.Queue()

        async def dispatch(claim: Claim) -> None:
            async with free_calls:
                answers.put_nowait(_Dispatched(claim.attempt, await self._dispatch(claim)))

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._write_down(answers))
            results = await asyncio.gather(*(dispatch(c) for c in claims), return_exceptions=True)
            answers.put_nowait(None)
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
            elif isinstance(failure, OUTAGES) or not isinstance(failure, Exception | None):
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
            log.warning("some dispatches failed; they are repeated", why=why)
        return len(claims) - len(failures)

    async def _dispatch(self, claim: Claim) -> str:
        """Dispatch under the attempt's token until the id of the child job is certain."""
        token = attempt_token(claim.attempt)
        meta = {"job": str(claim.attempt.job_id), "attempt": str(claim.attempt.number)}
        for _ in range(_TRIES):
            parent_id = await self._parents.ensure(claim.spec, claim.nodes)
            try:
                answer = await self._gateway.dispatch(
                    parent_id, meta, id_prefix=token, idempotency_token=token
                )
            except NomadNotFoundError:
                self._parents.forget(parent_id)
                continue
            # The answer to the first call for an attempt is true. After a lost answer, only an
            # answer to a token that Nomad knows is true: of two concurrent calls one gets a false
            # id.
            if answer.repeated or not claim.repeated:
                return answer.child_id
        raise NomadAwayError("a dispatch did not become certain")

    async def _write_down(self, answers: asyncio.Queue[_Dispatched | None]) -> None:
        """Write Nomad's answers to PostgreSQL, until None comes.

        Answers that come within a short time, or while the last ones are written, share a
        statement. So Nomad never waits for the database's disk. What a crash leaves unwritten is
        dispatched again under its token.
        """
        more = True
        while more:
            came = [await answers.get()]
            with suppress(TimeoutError):
                async with asyncio.timeout(_GATHER_S):
                    while came[-1] is not None:
                        came.append(await answers.get())
            more = came[-1] is not None
            dispatched = [each for each in came if each]
            if dispatched:
                await queries.note_dispatched(
                    self._pool,
                    job_ids=[each.attempt.job_id for each in dispatched],
                    numbers=[each.attempt.number for each in dispatched],
                    nomad_job_ids=[each.child_id for each in dispatched],
                )
