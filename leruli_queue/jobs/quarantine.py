"""A node that fails one job after the other is held back, and probed by one job at a time.

Counted are failures of different jobs, before their command ran, since the node's last success. The
count is kept in PostgreSQL and changes in the transaction of the receipt.
docs/developers/attempts.md, "A node that fails", has the rules and why they are so.
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
"""Why a node failed a job of which it alone said that image or input is no good.

``note_running`` has the same words.
"""


@dataclass(frozen=True)
class Quarantine:
    """When a node is held back, and when it is probed."""

    # Failures in a row, of different jobs.
    failures: int = 3
    # Seconds before the first probe; doubled after each that fails, up to the second figure.
    pause_s: float = 60.0
    most_pause_s: float = 3600.0

    @classmethod
    def of(cls, settings: Settings) -> Quarantine:
        """Return the settings' rule."""
        return cls(settings.node_failures, settings.node_probe_s, settings.node_probe_max_s)


async def note_failure(
    connection: Connection,
    node_id: UUID,
    job_id: UUID,
    number: int,
    reason: str,
    rule: Quarantine,
) -> bool:
    """Count a job that the platform failed on a node; the caller has a transaction.

    Returns
    -------
    bool
        Whether the node is held back, so that the failure is not the job's: it was before, or is
        from now on.
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
    return node_id in await hold_nodes(connection, rule, group_id=node["group_id"])


async def note_doubt(
    connection: Connection,
    node_id: UUID,
    job_id: UUID,
    number: int,
    reason: str,
    rule: Quarantine,
) -> None:
    """Count a probe that could not use an image or an input; of a node that is trusted, nothing.

    Such a node is to blame only once another one could use it. The caller has a transaction.
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
    log.warning("a probe failed; the node stays held back", node=str(node["id"]), why=reason)


async def hold_nodes(
    connection: Connection | Pool, rule: Quarantine, *, group_id: int | None = None
) -> set[UUID]:
    """Hold back the nodes, of one group or of all, that failed too many; return which."""
    held = await rows(
        queries.hold_nodes(connection, group_id=group_id, most=rule.failures, pause_s=rule.pause_s)
    )
    for row in held:
        log.warning(
            "node held back: it failed several jobs in a row",
            node=str(row["id"]),
            name=row["name"],
            failures=row["failures"],
            last=row["reason"],
        )
    return {row["id"] for row in held}


async def note_success(
    connection: Connection | Pool, node_id: UUID, started_at: datetime | None
) -> None:
    """Count a job that came to its own end on a node, in an attempt started then."""
    if started_at is None:
        return
    cleared = await queries.note_success(connection, node_id=node_id, started_at=started_at)
    if cleared is not None:
        log.info("node is well again: its probe came to its own end", node=str(node_id))


async def review(pool: Pool, rule: Quarantine) -> None:
    """Hold back and release what has changed outside of a receipt; can be repeated."""
    await hold_nodes(pool, rule)
    for row in await rows(queries.release_doubted_nodes(pool, most=rule.failures)):
        log.info(
            "node is held back no longer: other nodes failed its jobs as well",
            node=str(row["id"]),
            name=row["name"],
        )
    for row in await rows(queries.release_long_probed_nodes(pool, long_s=rule.most_pause_s)):
        log.info(
            "node is held back no longer: its probe has run for long",
            node=str(row["id"]),
            name=row["name"],
        )
