"""Gives up attempts that do not end or begin by themselves.

====================================================  =======================================
the attempt                                           done
====================================================  =======================================
placed, and its node does not ask for leave to start  given up
it for the grace time
over in Nomad, without a receipt for the grace time,  given up
and its node does not report that it holds it
on a node that is silent to Nomad and to the service  Nomad is asked once more; then given up
for too long
the same, but started, and no other node that is      waits for its node
heard is large enough
====================================================  =======================================

Old knowledge is no ground: a dispatcher or a Nomad that was away for an hour has not seen the nodes
come back. So it runs right after the fence has seen which nodes are heard.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from leruli_queue.dispatch.asking import few_at_once
from leruli_queue.dispatch.fence import Fence
from leruli_queue.dispatch.losses import Losses
from leruli_queue.dispatch.notes import note_observations
from leruli_queue.dispatch.observations import observe
from leruli_queue.jobs.attempts import AttemptId
from leruli_queue.jobs.giving_up import Loss
from leruli_queue.nomad.errors import NomadNotFoundError
from leruli_queue.nomad.gateway import NomadGateway
from leruli_queue.settings import Settings
from leruli_queue.store.pool import Pool
from leruli_queue.store.queries import queries, rows

# Between two looks at which nodes are heard.
_GIVEN_UP_AT_ONCE = 500
_BEFORE_ALL = UUID(int=0)


class Overdue:
    """Attempts whose receipt or start is overdue, and those on silent nodes."""

    def __init__(
        self,
        settings: Settings,
        pool: Pool,
        gateway: NomadGateway,
        fence: Fence,
        losses: Losses,
    ) -> None:
        self._settings = settings
        self._pool = pool
        self._gateway = gateway
        self._cluster = gateway.cluster.name
        self._fence = fence
        self._losses = losses

    async def note_unheard(self) -> None:
        """Note the silence of nodes that Nomad does not hear, whatever it says of what runs there.

        An allocation that is over stays so in Nomad when its node goes, and the node may still have
        the receipt of it.
        """
        await queries.note_unheard(
            self._pool, cluster=self._cluster, node_ids=list(self._fence.unheard)
        )

    async def give_up(self) -> None:
        """Give up attempts without a receipt or a beginning, and those on silent nodes.

        A limited number at a time. Nodes come back or go while Nomad is asked about thousands of
        attempts, so the fence looks again in between.
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
        answers = await few_at_once(self._is_back, (row["allocation_id"] for row in silent))
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
        await self._losses.give_up(losses)

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
