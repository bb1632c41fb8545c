"""Takes back attempts that wait in Nomad for a node that they will not get.

====================================================  =======================================
the attempt waits in Nomad                            done
====================================================  =======================================
for nodes that are not the group's any more           taken back: dispatched for the new ones
and is too large for every living node of its group   taken back: waits in the backlog
====================================================  =======================================
"""

from __future__ import annotations

from typing import Any

from leruli_queue.dispatch.choosing import Choice, choose_nodes
from leruli_queue.dispatch.losses import Losses
from leruli_queue.dispatch.nodes import usable_nodes
from leruli_queue.jobs.attempts import AttemptId
from leruli_queue.jobs.giving_up import Loss
from leruli_queue.jobs.sizes import one_fits
from leruli_queue.settings import Settings
from leruli_queue.store.pool import Pool
from leruli_queue.store.queries import queries, rows


class Misplaced:
    """Attempts that are dispatched, have no place, and will get none."""

    def __init__(self, settings: Settings, pool: Pool, cluster: str, losses: Losses) -> None:
        self._settings = settings
        self._pool = pool
        self._cluster = cluster
        self._losses = losses

    async def take_back(self) -> None:
        """Take back the attempts that wait for a node in vain; can be repeated."""
        nodes = await usable_nodes(self._pool, self._cluster, self._settings.node_unseen_s)
        waiting = await rows(queries.attempts_without_a_place(self._pool, cluster=self._cluster))
        choices = await choose_nodes(self._pool, self._cluster, waiting, nodes)
        losses = []
        for row in waiting:
            attempt = AttemptId(row["job_id"], row["number"])
            reason = _why_misplaced(row, choices.get(attempt))
            if reason:
                losses.append((row["group_id"], Loss.taken_back(attempt, reason)))
        await self._losses.give_up(losses)


def _why_misplaced(row: Any, choice: Choice | None) -> str | None:
    # While a node is kept, what was dispatched before may still go there: few, and they end.
    if choice is None or not choice.may_wait(row["node_set"]):
        return "the nodes of the group changed"
    sizes = choice.chosen.sizes if choice.is_probe else choice.usual.sizes
    if not one_fits(sizes, row["cores"], row["nomad_memory_mb"]):
        return "no machine that is large enough is connected any more"
    return None
