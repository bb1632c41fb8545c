"""Attempts on a node: the start grant and the upload lease.

Nomad places the allocation of an attempt. Whether the attempt may run and may upload is decided
here, between the node agent and the service. :mod:`leruli_queue.jobs.receipts` decides how it
ended. docs/developers/attempts.md has the whole protocol, crash by crash.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

import structlog

from leruli_queue.access.authenticate import Node
from leruli_queue.errors import UserReportableError
from leruli_queue.jobs.states import JobState
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
class StartGrant:
    """Permission to start an attempt, with all that the node agent needs to run it."""

    bucket: str
    code: str
    version: str
    cores: int
    memory_mb: int
    time_limit_s: int
    # None: the job asks for no limit and has the default.
    disk_mb: int | None
    # Whether an earlier attempt may have uploaded objects without the mark of an attempt.
    unmarked_output: bool
    # The name under which Nomad runs the image.
    image: str
    batch: UUID | None = None


class StaleAttemptError(UserReportableError):
    """The node may not run the attempt, or not any more. Its agent drops the attempt."""

    def __init__(self, message: str) -> None:
        super().__init__(message, status=409)


async def start_attempt(
    connection: Connection | Pool,
    node: Node,
    attempt: AttemptId,
    start_key: str,
    *,
    lease: bool = False,
) -> StartGrant:
    """Grant the start of an attempt to a node, once.

    All of these must hold:

    - The attempt is the current one of a job of the node's group.
    - The job is submitted and not cancelled.
    - The node joined with the current compute secret.

    A repeated call with the same start key gets the same answer: the first answer may be lost.

    Parameters
    ----------
    lease
        Whether to give the upload lease with it. The node's agent marks each object with the
        attempt that wrote it.

    Raises
    ------
    StaleAttemptError
        When one does not hold; the sentence says which.
    """
    row = await queries.start_attempt(
        connection,
        node_id=node.id,
        job_id=attempt.job_id,
        number=attempt.number,
        start_key=start_key,
        lease=lease,
    )
    if row is not None:
        fields = dict(row)
        key_id, hiding_key = fields.pop("token_key_id"), fields.pop("token_hash")
        image = image_in_nomad(key_id, hiding_key, row["code"], row["version"])
        return StartGrant(**fields, image=image)
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
    """Give a node the upload lease of an attempt, or renew it.

    While a node renews the lease, its output arrives: the attempt is not abandoned for silence.

    Parameters
    ----------
    marks
        Whether the node's agent marks each object with the attempt that wrote it.

    Raises
    ------
    StaleAttemptError
        When the attempt is not the current one, or not this node's. The next attempt may have
        uploaded already, and its objects must not be overwritten.
    """
    allowed = await queries.allow_upload(
        connection, node_id=node.id, job_id=attempt.job_id, number=attempt.number, marks=marks
    )
    if allowed is None:
        raise StaleAttemptError("This attempt is not the current one; upload nothing.")
