"""Which of its group's nodes an attempt may be placed on.

- Nearly always: all free nodes.
- A job that the platform failed on some nodes: the other nodes, as long as one of them fits it.
- An attempt that probes a node: that node alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from leruli_queue.dispatch.nodes import GroupNodes
from leruli_queue.jobs.attempts import AttemptId
from leruli_queue.store.pool import Connection, Pool
from leruli_queue.store.queries import queries, rows

_MOST_AVOIDED = 4
"""Nodes that one job avoids: the latest that failed it. Each choice is a parent job in Nomad."""

_MOST_PARENTS = 64
"""Parent jobs with a subset of a group's nodes, above which jobs avoid no nodes.

Each of them lives for an hour.
"""


@dataclass(frozen=True)
class Choice:
    """The nodes that an attempt may go to."""

    chosen: GroupNodes
    # All free nodes of the group. An attempt may have been claimed for these as well.
    usual: GroupNodes
    is_probe: bool = False

    def of_set(self, node_set: str) -> GroupNodes | None:
        """Return the nodes that an attempt was claimed for; None if they have changed since."""
        candidates = (self.chosen,) if self.is_probe else (self.chosen, self.usual)
        return next((nodes for nodes in candidates if nodes.digest == node_set), None)

    def may_stay(self, node_set: str) -> bool:
        """Tell whether an unplaced attempt for these nodes may stay in Nomad.

        It may also stay if one of the nodes was reserved since.
        """
        return self.of_set(node_set) is not None or node_set in (
            self.chosen.digest_of_all,
            *(() if self.is_probe else (self.usual.digest_of_all,)),
        )


async def choose_nodes(
    connection: Connection | Pool,
    cluster: str,
    attempts: Iterable[Mapping[str, Any]],
    nodes: Mapping[int, GroupNodes],
) -> dict[AttemptId, Choice]:
    """Choose nodes for attempts.

    Parameters
    ----------
    attempts
        Rows with job_id, number, group_id, cores and nomad_memory_mb.
    nodes
        Usable nodes by group id. Attempts of other groups are left out of the result.
    """
    of_attempt = {
        AttemptId(row["job_id"], row["number"]): row for row in attempts if row["group_id"] in nodes
    }
    choices = {
        attempt: Choice(nodes[row["group_id"]], nodes[row["group_id"]])
        for attempt, row in of_attempt.items()
    }
    special = [
        attempt
        for attempt, choice in choices.items()
        if attempt.number > 1 or any(node.held for node in choice.usual.nodes)
    ]
    if not special:
        return choices
    found = await rows(
        queries.avoided_nodes(
            connection,
            cluster=cluster,
            job_ids=[attempt.job_id for attempt in special],
            numbers=[attempt.number for attempt in special],
            most=_MOST_AVOIDED,
        )
    )
    for row in found:
        attempt = AttemptId(row["job_id"], row["number"])
        usual = choices[attempt].usual
        probed = usual.only(row["probed"]) if row["probed"] else None
        if probed:
            choices[attempt] = Choice(probed, usual, is_probe=True)
        elif row["nodes"]:
            job = of_attempt[attempt]
            others = usual.without(set(row["nodes"]), job["cores"], job["nomad_memory_mb"])
            choices[attempt] = Choice(others, usual)
    return choices


async def may_choose(connection: Connection | Pool, group_id: int) -> bool:
    """Tell whether a group may have one more parent job with a subset of its nodes."""
    parents = await queries.count_subset_parents(connection, group_id=group_id)
    return bool(parents < _MOST_PARENTS)
