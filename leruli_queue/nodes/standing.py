"""The standing of a node: whether it may start jobs, and if not, the reason in a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

_JOINING = "it has just joined, and Nomad does not hear it yet"


class Standing(Enum):
    """What a node may do; the value is what node-report and group-nodes answer."""

    USABLE = "usable"  # may start jobs
    TROUBLED = "troubled"  # may, but cannot now
    LEFT = "left"  # was shut down
    DRAINED = "drained"  # an admin took it out of service
    OUTDATED = "outdated"  # joined with a secret, or in a cluster, that is not the group's now
    REMOVED = "removed"  # an admin removed it


@dataclass(frozen=True)
class NodeStanding:
    """A node's standing and the reason for it."""

    standing: Standing
    reason: str | None
    needs_new_secret: bool


def standing_of(row: Mapping[str, Any]) -> NodeStanding:
    """Return the standing of a node. The first condition that holds decides.

    Parameters
    ----------
    row
        The columns ``left_at``, ``drained_at``, ``removed_at``, ``current_secret``,
        ``current_cluster``, ``nomad_trouble``, ``alive``, ``agent_trouble``, ``held_at``,
        ``held_failures`` and ``held_reason``.
    """
    outdated = not row["current_secret"]
    if row["removed_at"] is not None:
        standing, reason = Standing.REMOVED, "an admin of the group removed it"
    elif outdated:
        standing, reason = (
            Standing.OUTDATED,
            "it joined with a compute secret that was rotated; put the new one into its node.env "
            "and start it again",
        )
    elif not row["current_cluster"]:
        standing, reason = (
            Standing.OUTDATED,
            "the group was given another Nomad cluster; start it again",
        )
    elif row["drained_at"] is not None:
        standing, reason = Standing.DRAINED, "an admin of the group took it out of service"
    elif row["left_at"] is not None:
        standing, reason = Standing.LEFT, "it was shut down"
    elif row["nomad_trouble"] is not None or not row["alive"]:
        standing, reason = Standing.TROUBLED, row["nomad_trouble"] or _JOINING
    elif row["agent_trouble"] is not None:
        standing, reason = Standing.TROUBLED, row["agent_trouble"]
    elif row["held_at"] is not None:
        standing, reason = Standing.TROUBLED, _held(row)
    else:
        return NodeStanding(Standing.USABLE, None, needs_new_secret=False)
    return NodeStanding(standing, reason, needs_new_secret=outdated)


def _held(row: Mapping[str, Any]) -> str:
    return (
        f"it failed {row['held_failures']} jobs in a row, and is probed with one job at a time "
        f"until the command of one ends by itself; the last failure: {row['held_reason']}"
    )
