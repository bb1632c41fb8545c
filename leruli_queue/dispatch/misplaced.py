"""Requeues attempts that are unplaced in Nomad and will get no node.

====================================================  =======================================
the attempt is unplaced                               effect
====================================================  =======================================
and was dispatched for nodes that have changed since  requeued: dispatched for the new nodes
and is too large for every living node of its group   requeued: stays in the backlog
====================================================  =======================================
"""

from __future__ import annotations

from typing import Any

from leruli_queue.dispatch.abandoner import Abandoner
from leruli_queue.dispatch.choosing import Choice, choose_nodes
from leruli_queue.dispatch.nodes import usable_nodes
from leruli_queue.jobs.abandon import Abandonment
from leruli_queue.jobs.attempts import AttemptId
from leruli_queue.jobs.resources import any_fits
from leruli_queue.settings import Settings
from leruli_queue.store.pool import Pool
from leruli_queue.store.queries import queries, rows


class Misplaced:
    """Attempts that are dispatched, are unplaced, and will stay so."""

    def __init__(self, settings: Settings, pool: Pool, cluster: str, abandoner: Abandoner) -> None:
        self._settings = settings
        self._pool = pool
        self._cluster = cluster
        self._abandoner = abandoner

    async def requeue(self) -> None:
        """Requeue the attempts that no node will take; can be repeated."""
        nodes = await usable_nodes(self._pool, self._cluster, self._settings.node_unseen_s)
        unplaced = await rows(queries.unplaced_attempts(self._pool, cluster=self._cluster))
        choices = await choose_nodes(self._pool, self._cluster, unplaced, nodes)
        requeued = []
        for row in unplaced:
            attempt = AttemptId(row["job_id"], row["number"])
            reason = _why_misplaced(row, choices.get(attempt))
            if reason:
                requeued.append((row["group_id"], Abandonment.of_unstarted(attempt, reason)))
        await self._abandoner.abandon(requeued)


def _why_misplaced(row: Any, choice: Choice | None) -> str | None:
    # A reserved node may still get what was dispatched before: these are few, and they end.
    if choice is None or not choice.may_stay(row["node_set"]):
        return "the nodes of the group changed"
    sizes = choice.chosen.sizes if choice.is_probe else choice.usual.sizes
    if not any_fits(sizes, row["cores"], row["nomad_memory_mb"]):
        return "no machine that is large enough is connected any more"
    return None
