"""Why a dispatched job is unplaced: a sentence made from Nomad's evaluation."""

from __future__ import annotations

from typing import Any

_DIMENSIONS = {"cpu": "cores", "memory": "memory", "disk": "disk space"}


def unplaced_reason(evaluation: dict[str, Any]) -> str | None:
    """Return the sentence for an evaluation that found no place, else None."""
    failed = evaluation.get("FailedTGAllocs") or {}
    if not failed:
        return None
    metric = next(iter(failed.values())) or {}
    exhausted = metric.get("DimensionExhausted") or {}
    if exhausted:
        names = sorted({_DIMENSIONS.get(name.split()[0], name) for name in exhausted})
        return f"waiting for a node with enough free {' and '.join(names)}"
    if not metric.get("NodesEvaluated"):
        return "waiting for a node: Nomad has no machine of the group as ready"
    return "waiting for a node that can take it"
