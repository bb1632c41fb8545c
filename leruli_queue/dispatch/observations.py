"""Nomad's allocations, reduced to the facts that the database keeps.

ClientStatus alone is never trusted: a stopped or lost allocation also ends as ``complete``.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from leruli_queue.jobs.attempts import AttemptId
from leruli_queue.nomad.names import attempt_of_child, node_id_of

_OVER = ("complete", "failed", "lost")


@dataclass(frozen=True)
class Observation:
    """The allocation of an attempt at one moment."""

    attempt: AttemptId
    node_id: UUID
    allocation_id: str
    # Grows with each allocation that Nomad makes.
    create_index: int
    # The node's own claim, by its own clock. The statement note_running bounds it.
    running_since: datetime | None
    # Nothing of it will run any more. A receipt may still come.
    dead: bool
    # Its node does not answer.
    silent: bool


def observe(allocation: dict[str, Any]) -> Observation | None:
    """Read an allocation of Nomad's API or event stream; return None if it is not ours.

    Its tasks are the node's own claims, which any node can forge. So no content of them may raise.
    """
    attempt = attempt_of_child(allocation.get("JobID", ""))
    node_id = node_id_of(allocation.get("NodeID"))
    if attempt is None or node_id is None:
        return None
    tasks = allocation.get("TaskStates") or {}
    main = tasks.get("main") or {}
    status = allocation.get("ClientStatus")
    # Once a node has taken an allocation Nomad knows its tasks, even before any of them runs.
    never_taken = allocation.get("DesiredStatus") == "stop" and not tasks
    return Observation(
        attempt=attempt,
        node_id=node_id,
        allocation_id=allocation["ID"],
        create_index=allocation["CreateIndex"],
        running_since=_running_since(main),
        dead=status in _OVER or main.get("State") == "dead" or never_taken,
        silent=status == "unknown",
    )


def _running_since(main: dict[str, Any]) -> datetime | None:
    # A task that ended between two observations was running as well.
    if main.get("State") not in ("running", "dead"):
        return None
    try:
        started = datetime.fromisoformat(main.get("StartedAt", "")).astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        return None
    return started if started.year > 1 else None  # Go's zero time
