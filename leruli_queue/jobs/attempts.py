"""Attempts: leave to start, leave to upload, receipt.

Nomad places a job's allocation; whether it may run, may upload, and how it ended is settled here,
between the node agent and the service. docs/developers/attempts.md has the whole protocol, crash by
crash.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog

from leruli_queue.access.authenticate import Node
from leruli_queue.errors import UserReportableError
from leruli_queue.jobs.outcomes import (
    NOT_BEGUN,
    OWN_ENDS,
    PLATFORM_FAILURES,
    Limits,
    Receipt,
    Verdict,
    judge,
)
from leruli_queue.jobs.quarantine import (
    CONTRADICTED,
    note_doubt,
    note_failure,
    note_success,
)
from leruli_queue.jobs.retries import Retries
from leruli_queue.jobs.states import FINAL, JobState
from leruli_queue.naming import image_in_nomad
from leruli_queue.store.pool import Connection, Pool
from leruli_queue.store.queries import queries

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class AttemptId:
    """One dispatch of a job: the job's id and the attempt's number, counted from 1."""

    job_id: UUID
    number: int


@dataclass(frozen=True)
class Leave:
    """What the node agent has to know to run an attempt."""

    bucket: str
    code: str
    version: str
    cores: int
    memory_mb: int
    time_limit_s: int
    # None: it asks for none.
    disk_mb: int | None
    # Whether an earlier attempt may have uploaded objects that do not say which attempt wrote them.
    unmarked_output: bool
    # The name under which Nomad runs the image.
    image: str


class StaleAttemptError(UserReportableError):
    """The attempt is not, or no longer, this node's to run: the agent drops it."""

    def __init__(self, message: str) -> None:
        super().__init__(message, status=409)


async def start_attempt(
    connection: Connection | Pool, node: Node, attempt: AttemptId, start_key: str
) -> Leave:
    """Give a node leave to start an attempt.

    Given once: to the current attempt of a job of the node's group, submitted and not cancelled,
    to a node that joined with the current compute secret. Repeated with the same start key (the
    answer was lost) it answers the same.

    Raises
    ------
    StaleAttemptError
        Otherwise, with a sentence that says which.
    """
    row = await queries.start_attempt(
        connection,
        node_id=node.id,
        job_id=attempt.job_id,
        number=attempt.number,
        start_key=start_key,
    )
    if row is not None:
        fields = dict(row)
        key_id, hiding_key = fields.pop("token_key_id"), fields.pop("token_hash")
        image = image_in_nomad(key_id, hiding_key, row["code"], row["version"])
        return Leave(**fields, image=image)
    refusal = await _why_no_start(connection, node, attempt)
    log.warning("start refused", job=str(attempt.job_id), attempt=attempt.number, why=refusal)
    raise StaleAttemptError(refusal)


async def _why_no_start(connection: Connection | Pool, node: Node, attempt: AttemptId) -> str:
    row = await queries.why_no_start(connection, node_id=node.id, job_id=attempt.job_id)
    if row is None or not row["same_group"]:
        return "There is no such attempt for this node."
    if not row["current_secret"]:
        return "This node joined with a compute secret that was rotated; it has to join again."
    if row["group_is_disabled"]:
        return "The group was disabled by the operator of the service."
    if not row["current_cluster"]:
        return "The group was given another Nomad cluster; this node has to join again."
    if row["is_drained"]:
        return "An admin of the group took this node out of service."
    if row["is_held"] and row["started_at"] is None:
        return "This node failed several jobs in a row; it gets one at a time, when it is probed."
    if row["has_left"]:
        return "This node has left; it has to join again."
    if row["attempt"] != attempt.number:
        return "This is not the job's current attempt."
    if row["cancel_requested_at"] is not None or row["state"] == JobState.CANCELLED:
        return "The job was cancelled."
    if row["started_at"] is not None:
        return "This attempt was started before."
    return f"The job is {row['state']}, not waiting to be started."


async def allow_upload(
    connection: Connection | Pool, node: Node, attempt: AttemptId, *, marks: bool = False
) -> None:
    """Give a node leave to upload the output of an attempt, or renew it.

    ``marks`` says whether its agent marks each object with the attempt.
    While it is renewed the attempt is not given up for a silent node: the output arrives.

    Raises
    ------
    StaleAttemptError
        When the attempt is not the current one, or not this node's: its successor may have
        uploaded already, and must not be overwritten.
    """
    allowed = await queries.allow_upload(
        connection, node_id=node.id, job_id=attempt.job_id, number=attempt.number, marks=marks
    )
    if allowed is None:
        raise StaleAttemptError("This attempt is not the current one; upload nothing.")


async def end_attempt(
    connection: Connection, node: Node, attempt: AttemptId, receipt: Receipt, retries: Retries
) -> Verdict | None:
    """Take the receipt of an attempt: the job becomes final by it, or goes back to the queue.

    A repeated receipt changes nothing and returns None.

    Raises
    ------
    StaleAttemptError
        When the attempt is not the current one, or not this node's.
    """
    async with connection.transaction():
        row = await queries.attempt_for_receipt(
            connection, job_id=attempt.job_id, number=attempt.number
        )
        if row is None or row["node_id"] != node.id:
            raise StaleAttemptError("There is no such attempt for this node.")
        ended = await queries.end_attempt(
            connection,
            job_id=attempt.job_id,
            number=attempt.number,
            outcome=receipt.outcome,
            exit_code=receipt.exit_code,
            message=receipt.message,
            wall_s=receipt.wall_s,
            cpu_s=receipt.cpu_s,
            peak_memory_mb=receipt.peak_memory_mb,
            uploaded_bytes=receipt.uploaded_bytes,
            uploaded_files=receipt.uploaded_files,
        )
        state = JobState(row["state"])
        if ended is None or row["attempt"] != attempt.number or state in FINAL:
            # A repeated receipt; or noted above for the record, but the job has gone on without it.
            return None
        verdict = judge(
            receipt,
            Limits(row["memory_mb"], row["time_limit_s"], f"{row['code']}:{row['version']}"),
            cancel_requested=row["cancel_requested_at"] is not None,
            stop_expected=row["stop_expected"],
        )
        if state is JobState.RECEIVED and (
            # Given up, and counted, before. Only results that were uploaded make a difference.
            row["upload_at"] is None or verdict.state is JobState.RECEIVED
        ):
            return None
        if verdict.state is JobState.FAILED and receipt.outcome in NOT_BEGUN:
            verdict = await _second_opinion(
                connection, node, attempt, receipt, verdict, row, retries
            )
        elif verdict.counts_as_lost:
            verdict = await _lost(connection, node, attempt, receipt, verdict, row, retries)
        elif receipt.outcome in OWN_ENDS:
            await _node_works(connection, node, attempt, row, retries)
        await _apply(connection, attempt, verdict, receipt.exit_code, retries)
    log.info(
        "attempt ended",
        job=str(attempt.job_id),
        attempt=attempt.number,
        outcome=receipt.outcome.value,
        state=verdict.state.value,
    )
    return verdict


async def _second_opinion(
    connection: Connection,
    node: Node,
    attempt: AttemptId,
    receipt: Receipt,
    verdict: Verdict,
    job: Mapping[str, Any],
    retries: Retries,
) -> Verdict:
    """Send a job that one node could not begin to another one; at once, and uncounted.

    What a node says of an image or an input is final when a second node says the same, or two said
    something alike, or there is nobody else to ask. Where the job came back to the same node it
    waits, and is counted: it would come back at once, for ever.
    """
    row = await queries.other_opinions(
        connection,
        job_id=attempt.job_id,
        number=attempt.number,
        node_id=node.id,
        outcomes=[outcome.value for outcome in NOT_BEGUN],
    )
    same = [said for said in row["said"] if said.endswith(f" {receipt.outcome.value}")]
    final = (
        bool(same)
        or len(row["said"]) > 1
        or not row["others"]
        or (row["again"] and job["lost_attempts"] + 1 >= retries.max_attempts)
    )
    await queries.doubt_node(connection, job_id=attempt.job_id, node_id=None if final else node.id)
    if final:
        return verdict
    await queries.mark_failed_attempt(connection, job_id=attempt.job_id, number=attempt.number)
    why, rule = str(verdict.reason), retries.quarantine
    await note_doubt(connection, node.id, attempt.job_id, attempt.number, why, rule)
    return Verdict(
        JobState.RECEIVED,
        f"{verdict.reason}; a second machine is asked",
        counts_as_lost=row["again"],
    )


async def _lost(
    connection: Connection,
    node: Node,
    attempt: AttemptId,
    receipt: Receipt,
    verdict: Verdict,
    job: Mapping[str, Any],
    retries: Retries,
) -> Verdict:
    """Count a failure of the platform: against the node where it is to blame, or for the job."""
    held = False
    if receipt.outcome in PLATFORM_FAILURES:
        await queries.mark_failed_attempt(connection, job_id=attempt.job_id, number=attempt.number)
    if receipt.blames_node:
        held = await note_failure(
            connection,
            node.id,
            attempt.job_id,
            attempt.number,
            str(verdict.reason),
            retries.quarantine,
        )
    again = f"{verdict.reason}; it will run again"
    if held:
        # The node's failure, not the job's. It waits as after any other.
        return Verdict(JobState.RECEIVED, again, delayed=True)
    lost = job["lost_attempts"] + 1
    if lost < retries.max_attempts:
        return Verdict(JobState.RECEIVED, again, counts_as_lost=True)
    if await queries.platform_works(connection, job_id=attempt.job_id):
        return Verdict(JobState.FAILED, f"{verdict.reason}; given up after {lost} attempts")
    return Verdict(JobState.RECEIVED, again, delayed=True)


async def _node_works(
    connection: Connection,
    node: Node,
    attempt: AttemptId,
    job: Mapping[str, Any],
    retries: Retries,
) -> None:
    """Note that a job came to its own end on its node, whatever another node said of it before."""
    if job["node_failed_before"]:
        await note_success(connection, node.id, job["started_at"])
    if job["doubted_node"] not in (None, node.id):
        await note_failure(
            connection,
            job["doubted_node"],
            attempt.job_id,
            attempt.number,
            CONTRADICTED,
            retries.quarantine,
        )


async def _apply(
    connection: Connection,
    attempt: AttemptId,
    verdict: Verdict,
    exit_code: int | None,
    retries: Retries,
) -> None:
    if verdict.state is not JobState.RECEIVED:
        await queries.end_job(
            connection,
            job_id=attempt.job_id,
            number=attempt.number,
            state=verdict.state,
            reason=verdict.reason,
            exit_code=exit_code,
        )
    else:
        await queries.requeue_job(
            connection,
            job_id=attempt.job_id,
            number=attempt.number,
            reason=verdict.reason,
            lost=int(verdict.counts_as_lost),
            later=verdict.counts_as_lost or verdict.delayed,
            retry_delay_s=retries.delay_s,
        )
