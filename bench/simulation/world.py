"""A stack with groups and simulated nodes, ready for jobs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.simulation.cpu import cpu_seconds
from bench.simulation.groups import SimulatedGroup, make_groups
from bench.simulation.nodes import Agents, Nodes, NodeSize, Staging, running_nodes
from bench.simulation.watch import begin_to_watch
from bench.stack import Stack, running_stack
from leruli_queue.embedded.identities import service_url
from leruli_queue.errors import SetupError


@dataclass(frozen=True)
class World:
    """A running stack with its groups and simulated nodes."""

    stack: Stack
    groups: Sequence[SimulatedGroup]
    nodes: Nodes

    def cpu_by_part(self) -> dict[str, float]:
        """Return the CPU time that each part has used since its start, in s.

        Raises
        ------
        SetupError
            If a part has ended.
        """
        found = {}
        for part in (self.stack.serve, self.stack.dispatch, self.stack.database, self.stack.nomad):
            if part is None:
                continue
            if part.process is None or not part.is_alive:
                raise SetupError(f"The {part.name} ended; see {part.log}.")
            found[part.name] = cpu_seconds(part.process.pid)
        if self.nodes.process.poll() is not None:
            raise SetupError(f"The nodes ended; see {self.nodes.log}.")
        found["nodes"] = cpu_seconds(self.nodes.process.pid)
        return found


@contextmanager
def running_world(
    folder: Path,
    sizes: Sequence[NodeSize],
    *,
    absent: Sequence[NodeSize] = (),
    users: int = 1,
    workers: int = 1,
    staging: Staging | None = None,
    dispatching: bool = True,
    slot_max_s: float | None = None,
    agents: Agents | None = None,
) -> Iterator[World]:
    """Run a stack with the groups of these nodes; remove its folder at the end.

    Parameters
    ----------
    absent
        Nodes that join, but never start a Nomad client.
    slot_max_s
        LERULI_QUEUE_SLOT_MAX_S of the service. 0: Nomad places every job. None: as it is set.
    """
    with running_stack(
        folder,
        workers=workers,
        nomad=True,
        many_nodes=True,
        dispatching=dispatching,
        settings={} if slot_max_s is None else {"SLOT_MAX_S": str(slot_max_s)},
    ) as stack:
        count = 1 + max(size.group for size in sizes)
        groups = make_groups(stack.database_url, groups=count, users=users)
        begin_to_watch(stack.database_url)
        log = stack.folders.logs / "nodes.log"
        service = service_url(stack.state)
        with running_nodes(
            service, groups, sizes, absent, staging or Staging(), agents or Agents(), log
        ) as nodes:
            yield World(stack, groups, nodes)
