"""Slots in the database, as a node and Nomad would make them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from dispatch_world import Dispatching
from service_world import GroupOfTest, claim_jobs, make_jobs

from leruli_queue.access.authenticate import Node
from leruli_queue.dispatch.notes import note_observations
from leruli_queue.dispatch.observations import Observation
from leruli_queue.jobs.asking_slots import SlotGrant, SlotRequest
from leruli_queue.jobs.attempts import AttemptId, StaleAttemptError, start_attempt
from leruli_queue.jobs.outcomes import Outcome, Receipt
from leruli_queue.jobs.slots import Turn, grant_next, take_turn
from leruli_queue.nodes.report import Report, reply_to, take_report
from leruli_queue.settings import Settings
from leruli_queue.store.pool import Pool
from leruli_queue.store.queries import queries

KEY = "key-of-a-slot-1"


async def dispatched(
    pool: Pool, group: GroupOfTest, *, ago_s: float = 0.0, **changes: Any
) -> AttemptId:
    """An attempt that waits in Nomad, as the feeder dispatches it."""
    [job_id] = await make_jobs(pool, group, 1, **{"priority": 100, **changes})
    [row] = [row for row in await claim_jobs(pool, group, 1) if row["job_id"] == job_id]
    attempt = AttemptId(job_id, row["number"])
    await queries.note_dispatched(
        pool, job_ids=[job_id], numbers=[attempt.number], nomad_job_ids=[f"p/dispatch-{job_id}"]
    )
    await waits(pool, attempt, ago_s)
    return attempt


async def waits(pool: Pool, attempt: AttemptId, ago_s: float) -> None:
    """Let an attempt have waited in Nomad for this time."""
    await pool.execute(
        "UPDATE jobs SET submitted_at = now() - make_interval(secs => $2) WHERE id = $1",
        attempt.job_id,
        ago_s,
    )


async def running(pool: Pool, group: GroupOfTest, node: Node, **changes: Any) -> AttemptId:
    """An attempt that Nomad placed on the node and that was started there: it is a slot."""
    first = await dispatched(pool, group, **{"name": "first", **changes})
    await pool.execute(
        "UPDATE attempts SET allocation_id = $2, placed_at = now() WHERE job_id = $1",
        first.job_id,
        str(first.job_id),
    )
    await start_attempt(pool, node, first, "start-key-1")
    return first


async def ask(
    pool: Pool,
    node: Node,
    settings: Settings,
    *firsts: AttemptId,
    most: int = 1,
    ahead: int = 0,
    key: str = KEY,
) -> list[SlotGrant]:
    """What slots are granted in one call, all in one list."""
    requests = [SlotRequest(first, f"{key}-{first.job_id}", most, ahead) for first in firsts]
    async with pool.acquire() as connection:
        answers = await grant_next(connection, node, requests, settings)
    return [grant for first in firsts for grant in answers[first]]


def ids(grants: Sequence[SlotGrant]) -> list[UUID]:
    return [grant.attempt.job_id for grant in grants]


def ended(code: int = 0) -> Receipt:
    return Receipt(Outcome.ENDED, code, wall_s=2.0, cpu_s=1.0, uploaded_files=3)


async def take(
    pool: Pool, node: Node, settings: Settings, **turn: Any
) -> dict[AttemptId, StaleAttemptError | None]:
    async with pool.acquire() as connection:
        return (await take_turn(connection, node, Turn(**turn), settings)).receipts


async def placed_by_nomad(
    pool: Pool, group: GroupOfTest, node: Node, dispatcher: Dispatching
) -> AttemptId:
    """A slot whose child job is in a real Nomad server. That has no client, so the rest is told."""
    [job_id] = await make_jobs(pool, group, 1, name="first")
    assert await dispatcher.feeder.feed_once() == 1
    first = AttemptId(job_id, 1)
    await place(pool, first, node)
    await start_attempt(pool, node, first, "start-key-1")
    return first


async def place(pool: Pool, attempt: AttemptId, node: Node, **seen: Any) -> None:
    """Note what Nomad says of an attempt's allocation."""
    facts = {"dead": False, "silent": False, "running_since": None} | seen
    seen_now = Observation(attempt, node.id, str(attempt.job_id), 1, **facts)
    await note_observations(pool, [seen_now])


async def told(pool: Pool, node: Node, *held: AttemptId) -> tuple[set[AttemptId], set[AttemptId]]:
    """What a node that holds attempts is told by its report: to cancel, and to drop."""
    report = Report("1", "1", [], 1, 1, holds=[(one.job_id, one.number) for one in held])
    await take_report(pool, node.id, report)
    reply = await reply_to(pool, node.id, report.holds, unreported=False)
    return {AttemptId(*one) for one in reply.cancel}, {AttemptId(*one) for one in reply.drop}
