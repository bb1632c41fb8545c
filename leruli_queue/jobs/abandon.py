"""Abandon attempts: end them without a receipt, and requeue their jobs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from leruli_queue.jobs.attempts import AttemptId
from leruli_queue.jobs.retries import Retries
from leruli_queue.store.pool import Connection, Pool
from leruli_queue.store.queries import queries, rows

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Abandonment:
    """An attempt to abandon, and the reason."""

    attempt: AttemptId
    reason: str
    # Whether it counts towards LERULI_QUEUE_MAX_ATTEMPTS.
    counts: bool
    # Whether the job is tried again only after the retry delay.
    later: bool = True
    # Whether to keep the attempt if its start was granted in the meantime.
    only_unstarted: bool = False

    @classmethod
    def of_unstarted(cls, attempt: AttemptId, reason: str) -> Abandonment:
        """Abandon an attempt only if it has not started: no lost attempt, no delay for the job."""
        return cls(attempt, reason, counts=False, later=False, only_unstarted=True)


async def abandon(
    connection: Connection | Pool, abandonments: Sequence[Abandonment], retries: Retries
) -> None:
    """Requeue the jobs of these attempts, and have their allocations stopped.

    A job without attempts left is failed. A job whose cancellation waited for the receipt is
    cancelled. An attempt that is over already stays as it is.
    """
    if not abandonments:
        return
    changed = await rows(
        queries.abandon_attempts(
            connection,
            job_ids=[each.attempt.job_id for each in abandonments],
            numbers=[each.attempt.number for each in abandonments],
            reasons=[each.reason for each in abandonments],
            losts=[each.counts for each in abandonments],
            laters=[each.later for each in abandonments],
            unstarteds=[each.only_unstarted for each in abandonments],
            max_attempts=retries.max_attempts,
            retry_delay_s=retries.delay_s,
        )
    )
    for row in changed:
        log.warning(
            "attempt abandoned", job=str(row["id"]), attempt=row["attempt"], state=row["state"]
        )
