"""Abandons attempts that do not start or end by themselves.

====================================================  =======================================
the attempt                                           effect
====================================================  =======================================
placed, and its node does not ask for a start grant   abandoned
within the grace time
over in Nomad without a receipt for the grace time,   abandoned
and its node does not report that it holds it
on a node that is silent to Nomad and to the service  Nomad is asked once more; then abandoned
for too long
the same, but started, and no other node that is      waits for its node
heard is large enough
granted in a slot, and its node's reports do not      abandoned, uncounted
hold it: the answer was lost
====================================================  =======================================

Old knowledge must not decide: a dispatcher or a Nomad that was away for an hour has not seen the
nodes come back. So this runs right after the fence has seen which nodes are heard.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from leruli_queue.dispatch.abandoner import Abandoner
from leruli_queue.dispatch.asking import few_at_once
from leruli_queue.dispatch.fence import Fence
from leruli_queue.dispatch.notes import note_observations
from leruli_queue.dispatch.observations import observe
from leruli_queue.jobs.abandon import Abandonment
from leruli_queue.jobs.attempts import AttemptId
from leruli_queue.nomad.errors import NomadNotFoundError
from leruli_queue.nomad.gateway import NomadGateway
from leruli_queue.settings import Settings
from leruli_queue.store.pool import Pool
from leruli_queue.store.queries import queries, rows

# Attempts between two runs of the fence, which sees which nodes are heard.
_ABANDON_AT_ONCE = 500
_BEFORE_ALL = UUID(int=0)


class Overdue:
    """Attempts whose receipt or start is overdue, and those on silent nodes."""

    def __init__(
        self,
        settings: Settings,
        pool: Pool,
        gateway: NomadGateway,
        fence: Fence,
        abandoner: Abandoner,
    ) -> None:
        self._settings = settings
        self._pool = pool
        self._gateway = gateway
        self._cluster = gateway.cluster.name
        self._fence = fence
        self._abandoner = abandoner

    async def note_unheard(self) -> None:
        """Note the silence of nodes that Nomad does not hear.

        Nomad's status of an allocation does not show it: an allocation that is over stays so when
        its node goes silent. The node may still have its receipt.
        """
        await queries.note_unheard(
            self._pool, cluster=self._cluster, node_ids=list(self._fence.unheard)
        )

    async def abandon(self) -> None:
        """Abandon attempts whose receipt or start is overdue, and those on silent nodes.

        A limited number at a time: nodes come and go while Nomad is asked about thousands of
        attempts. So the fence runs again in between.
        """
        after = _BEFORE_ALL
        while found := await self._overdue(after):
            await self._abandon(found)
            if len(found) < _ABANDON_AT_ONCE:
                return
            after = found[-1]["job_id"]
            await self._fence.enforce()
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
                limit=_ABANDON_AT_ONCE,
            )
        )

    async def _abandon(self, found: Sequence[Any]) -> None:
        silent = [row for row in found if row["silent"]]
        answers = await few_at_once(self._is_back, (row["allocation_id"] for row in silent))
        back = {row["job_id"] for row, is_back in zip(silent, answers, strict=True) if is_back}
        abandoned = []
        for row in found:
            if row["job_id"] in back:
                continue
            if row["silent"]:
                reason = "its node does not answer"
            elif row["unknown_there"]:
                reason = "its node does not know of it"
            elif row["started"]:
                reason = "it ended without a receipt"
            else:
                reason = "its node did not start it"
            attempt = AttemptId(row["job_id"], row["number"])
            abandonment = Abandonment(
                attempt,
                reason,
                counts=row["started"] and not row["unknown_there"],
                later=not row["unknown_there"],
                only_unstarted=not row["started"],
            )
            abandoned.append((row["group_id"], abandonment))
        await self._abandoner.abandon(abandoned)

    async def _is_back(self, allocation_id: str) -> bool:
        """Ask Nomad whether a node that was noted as silent is back; if so, note that."""
        try:
            seen = observe(await self._gateway.read_allocation(allocation_id))
        except NomadNotFoundError:
            return False
        if seen is None or seen.silent or seen.node_id in self._fence.unheard:
            return False
        await note_observations(self._pool, [seen])
        return True
