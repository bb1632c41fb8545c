"""The receipts that a node sends together.

Most receipts are of commands that ran to their end, and have no other consequence than their job's
final state. One statement takes all of these. Each of the others goes through `end_attempt`. So
does a command that failed, if its job has a retry rule.
"""

from __future__ import annotations

from collections.abc import Sequence

from leruli_queue.access.authenticate import Node
from leruli_queue.jobs.attempts import AttemptId, StaleAttemptError
from leruli_queue.jobs.outcomes import Limits, Outcome, Receipt, judge
from leruli_queue.jobs.receipts import end_attempt, log_end
from leruli_queue.jobs.retries import Retries
from leruli_queue.store.pool import Connection
from leruli_queue.store.queries import queries, rows

# A command that ran to its end is judged without them.
_NO_LIMITS = Limits(0, 0, "")


async def end_attempts(
    connection: Connection,
    node: Node,
    receipts: Sequence[tuple[AttemptId, Receipt]],
    retries: Retries,
) -> dict[AttemptId, StaleAttemptError | None]:
    """Take receipts, of at most one for each attempt; repeated ones change nothing.

    Parameters
    ----------
    connection
        In no transaction.

    Returns
    -------
    dict
        For each attempt None, or why the service has nothing to do with it any more. Then the
        node drops it.
    """
    taken = await _end_plainly(connection, node, receipts)
    answers: dict[AttemptId, StaleAttemptError | None] = {}
    for attempt, receipt in receipts:
        answers[attempt] = None
        if attempt in taken:
            continue
        try:
            await end_attempt(connection, node, attempt, receipt, retries)
        except StaleAttemptError as stale:
            answers[attempt] = stale
    return answers


async def _end_plainly(
    connection: Connection, node: Node, receipts: Sequence[tuple[AttemptId, Receipt]]
) -> set[AttemptId]:
    ended = {a: receipt for a, receipt in receipts if receipt.outcome is Outcome.ENDED}
    if not ended:
        return set()
    verdicts = {
        attempt: judge(receipt, _NO_LIMITS, cancel_requested=False, stop_expected=False)
        for attempt, receipt in ended.items()
    }
    found = await rows(
        queries.end_attempts(
            connection,
            node_id=node.id,
            job_ids=[attempt.job_id for attempt in ended],
            numbers=[attempt.number for attempt in ended],
            states=[verdict.state.value for verdict in verdicts.values()],
            reasons=[verdict.reason for verdict in verdicts.values()],
            exit_codes=[receipt.exit_code for receipt in ended.values()],
            messages=[receipt.message for receipt in ended.values()],
            walls=[receipt.wall_s for receipt in ended.values()],
            cpus=[receipt.cpu_s for receipt in ended.values()],
            memories=[receipt.peak_memory_mb for receipt in ended.values()],
            bytes=[receipt.uploaded_bytes for receipt in ended.values()],
            files=[receipt.uploaded_files for receipt in ended.values()],
            no_caches=[receipt.peak_no_cache_mb for receipt in ended.values()],
            disks=[receipt.disk_mb for receipt in ended.values()],
            images=[receipt.image_s for receipt in ended.values()],
            inputs=[receipt.input_s for receipt in ended.values()],
            outputs=[receipt.output_s for receipt in ended.values()],
        )
    )
    taken = {AttemptId(row["job_id"], row["number"]) for row in found}
    for attempt in taken:
        log_end(attempt, ended[attempt], verdicts[attempt])
    return taken
