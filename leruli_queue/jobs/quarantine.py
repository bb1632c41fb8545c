"""Quarantine: a node that fails several jobs in a row gets only probes, one job at a time.

The count is the number of different jobs that failed before their command ran, since the node's
last success. It is in PostgreSQL and changes in the transaction of the receipt.
docs/developers/attempts.md, "A node that fails", has the rules and their reasons.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog

from leruli_queue.settings import Settings
from leruli_queue.store.pool import Connection, Pool
from leruli_queue.store.queries import queries, rows

log = structlog.get_logger(__name__)

CONTRADICTED = "it could not use an image or an input that another node could use"
"""The reason of a failure when one node blamed image or input and another node could use both.

The statement ``note_running`` writes the same words.
"""


@dataclass(frozen=True)
class Quarantine:
    """When a node is quarantined, and when it is probed."""

    # Failures in a row, of different jobs.
    failures: int = 3
    # Seconds before the first probe. The pause doubles after each failed probe, up to most_pause_s.
    pause_s: float = 60.0
    most_pause_s: float = 3600.0

    @classmethod
    def of(cls, settings: Settings) -> Quarantine:
        """Return the rule of the settings."""
        return cls(settings.node_failures, settings.node_probe_s, settings.node_probe_max_s)


async def note_failure(
    connection: Connection,
    node_id: UUID,
    job_id: UUID,
    number: int,
    reason: str,
    rule: Quarantine,
) -> bool:
    """Count a failure of the platform against a node. The caller has a transaction.

    Returns
    -------
    bool
        Whether the node is quarantined, before this failure or by it. Then the failure does not
        count against the job.
    """
    node = await queries.lock_node(connection, node_id=node_id, job_id=job_id, number=number)
    elsewhere = await queries.failed_elsewhere(
        connection, job_id=job_id, number=number, node_id=node_id
    )
    if elsewhere and not node["held"]:
        await queries.doubt_failures(connection, job_id=job_id)
    await queries.note_failure(
        connection, node_id=node_id, job_id=job_id, reason=reason, counts=not elsewhere
    )
    if node["held"]:
        await _note_probe(connection, node, reason, rule)
        return True
    return node_id in await quarantine_nodes(connection, rule, group_id=node["group_id"])


async def note_doubt(
    connection: Connection,
    node_id: UUID,
    job_id: UUID,
    number: int,
    reason: str,
    rule: Quarantine,
) -> None:
    """Count a probe that could not use an image or an input. The caller has a transaction.

    A node that is not in quarantine is left alone: it is to blame only once another node could use
    the same image and input.
    """
    node = await queries.lock_node(connection, node_id=node_id, job_id=job_id, number=number)
    await _note_probe(connection, node, reason, rule)


async def _note_probe(
    connection: Connection, node: Mapping[str, Any], reason: str, rule: Quarantine
) -> None:
    if not (node["held"] and node["is_probe"]):
        return
    await queries.note_failed_probe(
        connection,
        node_id=node["id"],
        reason=reason,
        pause_s=rule.pause_s,
        most_pause_s=rule.most_pause_s,
    )
    log.warning("a probe failed; the node stays in quarantine", node=str(node["id"]), why=reason)


async def quarantine_nodes(
    connection: Connection | Pool, rule: Quarantine, *, group_id: int | None = None
) -> set[UUID]:
    """Quarantine the nodes of one group, or of all, that failed too many jobs; return their ids."""
    held = await rows(
        queries.quarantine_nodes(
            connection, group_id=group_id, most=rule.failures, pause_s=rule.pause_s
        )
    )
    for row in held:
        log.warning(
            "node quarantined: it failed several jobs in a row",
            node=str(row["id"]),
            name=row["name"],
            failures=row["failures"],
            last=row["reason"],
        )
    return {row["id"] for row in held}


async def note_success(
    connection: Connection | Pool, node_id: UUID, started_at: datetime | None
) -> None:
    """Note that a command ended by itself on a node, in an attempt that started at that time.

    A success ends the count of failures, and the quarantine if the attempt was a probe.
    """
    if started_at is None:
        return
    cleared = await queries.note_success(connection, node_id=node_id, started_at=started_at)
    if cleared is not None:
        log.info("node released from quarantine: its probe ended well", node=str(node_id))


async def review(pool: Pool, rule: Quarantine) -> None:
    """Quarantine and release nodes for changes outside of receipts. Can be repeated."""
    await quarantine_nodes(pool, rule)
    for row in await rows(queries.release_doubted_nodes(pool, most=rule.failures)):
        log.info(
            "node released from quarantine: other nodes failed its jobs as well",
            node=str(row["id"]),
            name=row["name"],
        )
    for row in await rows(queries.release_long_probed_nodes(pool, long_s=rule.most_pause_s)):
        log.info(
            "node released from quarantine: its probe has run for long",
            node=str(row["id"]),
            name=row["name"],
        )
