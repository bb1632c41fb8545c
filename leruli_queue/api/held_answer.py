"""The answer to a node's report, held back while it would say what the node knows."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from uuid import UUID

import structlog
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from leruli_queue.api.context import Context
from leruli_queue.api.held_reports import HeldReport
from leruli_queue.api.schemas.agents import HeldAttempt, NodeReportAnswer
from leruli_queue.errors import UserReportableError
from leruli_queue.nodes.report import reply_to
from leruli_queue.store.pool import DATABASE_AWAY, Connection

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Said:
    """What the service has to say to a node about its report."""

    node_id: UUID
    holds: Sequence[tuple[UUID, int]]
    image_tokens: Sequence[str]
    report_s: float
    # Whether the agent lets its reports wait.
    waits: bool

    async def answer(self, connection: Connection) -> NodeReportAnswer:
        """Return the answer as of now."""
        reply = await reply_to(connection, self.node_id, self.holds, unreported=self.waits)
        answer = NodeReportAnswer(
            standing=reply.node.standing,
            reason=reply.node.reason,
            drop=_attempts(reply.drop),
            cancel=_attempts(reply.cancel),
            follow=_attempts(reply.follow),
            imagetokens=list(self.image_tokens),
            reportseconds=self.report_s,
        )
        digest = hashlib.sha256(answer.model_dump_json().encode()).hexdigest()
        return answer.model_copy(update={"said": digest[:16]})


def _attempts(named: Sequence[tuple[UUID, int]]) -> list[HeldAttempt]:
    return [HeldAttempt(jobid=job_id, attempt=number) for job_id, number in named]


class HeldAnswer(Response):
    """An answer that is sent when it says something else, or the report period is over.

    It is a response, not a route that waits: the parsed body and the route's own data are gone
    while it waits. It holds no connection to PostgreSQL.

    Parameters
    ----------
    context, said
        Where and what to read when the node's news come.
    answer
        What the node knows.
    report
        Wakes this answer.
    waiting
        Is closed when the answer does not wait any more.
    """

    def __init__(
        self,
        context: Context,
        said: Said,
        answer: NodeReportAnswer,
        report: HeldReport,
        waiting: ExitStack,
    ) -> None:
        super().__init__(status_code=200)
        self._context = context
        self._said = said
        self._answer = answer
        self._report = report
        self._waiting = waiting

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Wait, and answer."""
        with self._waiting:
            answer = await self._news()
        content = answer.model_dump_json()
        await Response(content, media_type="application/json")(scope, receive, send)

    async def _news(self) -> NodeReportAnswer:
        clock = asyncio.get_running_loop()
        until = clock.time() + self._said.report_s
        while not self._report.must_end:
            left_s = until - clock.time()
            if left_s <= 0 or not await self._report.wait(left_s):
                break
            try:
                async with self._context.reading() as connection:
                    answer = await self._said.answer(connection)
            except (*DATABASE_AWAY, UserReportableError) as error:
                # The node's next report says it.
                log.warning("a waiting report has no news", why=type(error).__name__)
                break
            if answer.said != self._answer.said:
                return answer
        return self._answer
