"""Resources that each group has in flight, and what is free on its nodes."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from leruli_queue.dispatch.nodes import GroupNodes
from leruli_queue.jobs.resources import Resources
from leruli_queue.store.pool import Pool
from leruli_queue.store.queries import queries


@dataclass
class Load:
    """What a group has in flight, without reserved nodes and the jobs they are reserved for."""

    # How many attempts are unplaced, by what their jobs ask for.
    unplaced_by_resources: dict[Resources, int] = field(default_factory=dict)
    cores: int = 0
    memory_mb: int = 0
    # Attempts for which Nomad said that it has no room.
    refused: int = 0

    def add(self, row: Any) -> None:
        """Add a row of in_flight_by_resources."""
        if row["unplaced"]:
            self.unplaced_by_resources[row["cores"], row["nomad_memory_mb"]] = row["unplaced"]
        self.cores += row["in_flight"] * row["cores"]
        self.memory_mb += row["in_flight"] * row["nomad_memory_mb"]
        self.refused += row["refused"]

    @property
    def unplaced(self) -> int:
        """How many attempts are unplaced, whatever resources they ask for."""
        return sum(self.unplaced_by_resources.values())

    def free(self, nodes: GroupNodes) -> tuple[int, int]:
        """Return the cores and MB of the group's living nodes that nothing in flight asks for.

        Both are 0 when Nomad found no room for a job. Then the free resources are fragmented, or on
        nodes that take no jobs.
        """
        if self.refused:
            return 0, 0
        return max(0, nodes.cores - self.cores), max(0, nodes.memory_mb - self.memory_mb)


async def loads_by_group(pool: Pool, cluster: str) -> defaultdict[int, Load]:
    """Return what is in flight on a cluster, by group id."""
    loads: defaultdict[int, Load] = defaultdict(Load)
    async for row in queries.in_flight_by_resources(pool, cluster=cluster):
        loads[row["group_id"]].add(row)
    return loads
