"""What is in flight of each group, and what of its nodes that leaves."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from leruli_queue.dispatch.nodes import GroupNodes
from leruli_queue.store.pool import Pool
from leruli_queue.store.queries import queries


@dataclass
class Load:
    """What is in flight of a group's jobs, but for nodes that are kept for a job, and that job."""

    # How many have no place yet, by what they ask for.
    shapes: dict[tuple[int, int], int] = field(default_factory=dict)
    cores: int = 0
    memory_mb: int = 0
    # Of how many Nomad said that there is no room for them.
    refused: int = 0

    def add(self, row: Any) -> None:
        """Add what asks for the same."""
        if row["waiting"]:
            self.shapes[row["cores"], row["nomad_memory_mb"]] = row["waiting"]
        self.cores += row["in_flight"] * row["cores"]
        self.memory_mb += row["in_flight"] * row["nomad_memory_mb"]
        self.refused += row["refused"]

    @property
    def waiting(self) -> int:
        """How many have no place yet, whatever they ask for."""
        return sum(self.shapes.values())

    def free(self, nodes: GroupNodes) -> tuple[int, int]:
        """Return cores and MB of the group's living nodes that nothing in flight asks for.

        Nothing, where Nomad found no room for a job: what is free is in pieces, or on nodes that
        do not take jobs.
        """
        if self.refused:
            return 0, 0
        return max(0, nodes.cores - self.cores), max(0, nodes.memory_mb - self.memory_mb)


async def loads_by_group(pool: Pool, cluster: str) -> defaultdict[int, Load]:
    """Return what is in flight on a cluster, by group id."""
    loads: defaultdict[int, Load] = defaultdict(Load)
    async for row in queries.in_flight_by_shape(pool, cluster=cluster):
        loads[row["group_id"]].add(row)
    return loads
