"""Take the receipt of an attempt: it makes the job final, or requeues it.

:mod:`leruli_queue.jobs.outcomes` says what an outcome means. This module adds what other nodes said
of the same job, and counts failures against the job or the node. Of a job that failed
:mod:`leruli_queue.jobs.retry_rules` says whether its user wants it tried again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import structlog

from leruli_queue.access.authenticate import Node
from leruli_queue.jobs.attempts import AttemptId, StaleAttemptError
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
from leruli_queue.jobs.retry_rules import revise
from leruli_queue.jobs.states import FINAL, JobState
from leruli_queue.store.pool import Connection
from leruli_queue.store.queries import queries

log = structlog.get_logger(__name__)


async def end_attempt(
    connection: Connection, node: Node, attempt: AttemptId, receipt: Receipt, retries: Retries
) -> Verdict | None:
    """Take the receipt of an attempt: end its job, or requeue it.

    Returns
    -------
    Verdict or None
        None when the receipt changes nothing, for instance because it is repeated.

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
        is_new = await _store(connection, attempt, receipt)
        state = JobState(row["state"])
        if not is_new or row["attempt"] != attempt.number or state in FINAL:
            # A repeated receipt, or a late one that is only stored: the job has gone on without it.
            return None
        verdict = judge(
            receipt,
            Limits(row["memory_mb"], row["time_limit_s"], f"{row['code']}:{row['version']}"),
            cancel_requested=row["cancel_requested_at"] is not None,
            stop_expected=row["stop_expected"],
        )
        if state is JobState.RECEIVED and (
            # The attempt was abandoned, and counted. Only uploaded results change anything now.
            row["upload_at"] is None or verdict.state is JobState.RECEIVED
        ):
            return None
        verdict = await _revise(connection, node, attempt, receipt, verdict, row, retries)
        if verdict.state is JobState.FAILED:
            verdict = revise(verdict, receipt, row)
        await _apply(connection, attempt, verdict, receipt.exit_code, retries)
    log_end(attempt, receipt, verdict)
    return verdict


def log_end(attempt: AttemptId, receipt: Receipt, verdict: Verdict) -> None:
    """Log a receipt that was taken."""
    log.info(
        "attempt ended",
        job=str(attempt.job_id),
        attempt=attempt.number,
        outcome=receipt.outcome.value,
        state=verdict.state.value,
    )


async def _store(connection: Connection, attempt: AttemptId, receipt: Receipt) -> bool:
    """Store the receipt; return False when the attempt has one already."""
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
        peak_no_cache_mb=receipt.peak_no_cache_mb,
        disk_mb=receipt.disk_mb,
        image_s=receipt.image_s,
        input_s=receipt.input_s,
        output_s=receipt.output_s,
    )
    return ended is not None


async def _revise(
    connection: Connection,
    node: Node,
    attempt: AttemptId,
    receipt: Receipt,
    verdict: Verdict,
    job: Mapping[str, Any],
    retries: Retries,
) -> Verdict:
    """Return the verdict in the light of other attempts; count a failure or success of the node."""
    if verdict.state is JobState.FAILED and receipt.outcome in NOT_BEGUN:
        return await _second_opinion(connection, node, attempt, receipt, verdict, job, retries)
    if verdict.counts_as_lost:
        return await _count_failure(connection, node, attempt, receipt, verdict, job, retries)
    if receipt.outcome in OWN_ENDS:
        await _note_working_node(connection, node, attempt, job, retries)
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
    """Let a second node try a job whose image or input one node could not use.

    The job is requeued at once, and the attempt does not count as lost. The first node's verdict is
    final in one of these cases:

    - A second node reports the same outcome.
    - Two other nodes already reported outcomes of this kind.
    - No other node could run the job.
    - The job came back to the same node, and no attempts are left.

    If the job came back to the same node, the attempt counts and the job is delayed. Otherwise it
    would come back at once, for ever.
    """
    row = await queries.other_nodes_outcomes(
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


async def _count_failure(
    connection: Connection,
    node: Node,
    attempt: AttemptId,
    receipt: Receipt,
    verdict: Verdict,
    job: Mapping[str, Any],
    retries: Retries,
) -> Verdict:
    """Count a failure of the platform.

    It counts against the job. If the node is to blame it counts against the node too; once that
    node is held back, the job loses no attempt by it.
    """
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
        # The node is to blame, so the job loses no attempt. It is delayed all the same.
        return Verdict(JobState.RECEIVED, again, delayed=True)
    lost = job["lost_attempts"] + 1
    if lost < retries.max_attempts:
        return Verdict(JobState.RECEIVED, again, counts_as_lost=True)
    if await queries.platform_works(connection, job_id=attempt.job_id):
        return Verdict(JobState.FAILED, f"{verdict.reason}; given up after {lost} attempts")
    return Verdict(JobState.RECEIVED, again, delayed=True)


async def _note_working_node(
    connection: Connection,
    node: Node,
    attempt: AttemptId,
    job: Mapping[str, Any],
    retries: Retries,
) -> None:
    """Note that the job's command ran on this node. A node that doubted the job was wrong."""
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
    elif verdict.next_limits is not None:
        await queries.retry_job(
            connection,
            job_id=attempt.job_id,
            number=attempt.number,
            reason=verdict.reason,
            memory_mb=verdict.next_limits.memory_mb,
            time_limit_s=verdict.next_limits.time_limit_s,
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
