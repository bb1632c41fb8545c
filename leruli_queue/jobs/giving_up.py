"""Give attempts up: the platform lost them, or takes them back."""

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
class Loss:
    """An attempt that will bring nothing any more, and why."""

    attempt: AttemptId
    reason: str
    # Whether it counts towards LERULI_QUEUE_MAX_ATTEMPTS.
    counts: bool
    # Whether the job waits before it is tried again.
    later: bool = True
    # Whether to leave the attempt alone if it got leave to start in the meantime.
    only_unstarted: bool = False

    @classmethod
    def taken_back(cls, attempt: AttemptId, reason: str) -> Loss:
        """Return that of an attempt which has not begun: it costs the job nothing, nor time."""
        return cls(attempt, reason, counts=False, later=False, only_unstarted=True)


async def give_up(connection: Connection | Pool, losses: Sequence[Loss], retries: Retries) -> None:
    """Send the jobs of these attempts back to the queue, and have their allocations stopped.

    A job that has used its attempts up is failed; one whose cancellation was waiting for the
    receipt is cancelled. An attempt that is over already is left as it is.
    """
    if not losses:
        return
    changed = await rows(
        queries.give_up_attempts(
            connection,
            job_ids=[loss.attempt.job_id for loss in losses],
            numbers=[loss.attempt.number for loss in losses],
            reasons=[loss.reason for loss in losses],
            losts=[loss.counts for loss in losses],
            laters=[loss.later for loss in losses],
            unstarteds=[loss.only_unstarted for loss in losses],
            max_attempts=retries.max_attempts,
            retry_delay_s=retries.delay_s,
        )
    )
    for row in changed:
        log.warning(
            "attempt given up", job=str(row["id"]), attempt=row["attempt"], state=row["state"]
        )
