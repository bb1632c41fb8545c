"""A stack with groups and simulated nodes, ready for jobs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.simulation.cpu import cpu_seconds
from bench.simulation.groups import SimulatedGroup, make_groups
from bench.simulation.nodes import Nodes, NodeSize, Staging, running_nodes
from bench.simulation.watch import begin_to_watch
from bench.stack import Stack, running_stack
from leruli_queue.embedded.identities import service_url
from leruli_queue.errors import SetupError


@dataclass(frozen=True)
class World:
    """All that runs."""

    stack: Stack
    groups: Sequence[SimulatedGroup]
    nodes: Nodes

    def cpu_by_part(self) -> dict[str, float]:
        """Return the seconds of CPU that each part has used since its start.

        Raises
        ------
        SetupError
            When one has ended.
        """
        found = {}
        for part in (self.stack.serve, self.stack.dispatch, self.stack.database, self.stack.nomad):
            if part is None:
                continue
            if part.process is None or not part.is_alive:
                raise SetupError(f"the {part.name} ended")
            found[part.name] = cpu_seconds(part.process.pid)
        if self.nodes.process.poll() is not None:
            raise SetupError(f"the nodes ended; see {self.nodes.log}")
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
) -> Iterator[World]:
    """Run a stack with as many groups as the nodes name; what it wrote goes with it.

    Those that are absent join, and never start a Nomad client.
    """
    with running_stack(
        folder, workers=workers, nomad=True, many_nodes=True, dispatching=dispatching
    ) as stack:
        count = 1 + max(size.group for size in sizes)
        groups = make_groups(stack.database_url, groups=count, users=users)
        begin_to_watch(stack.database_url)
        log = stack.folders.logs / "nodes.log"
        with running_nodes(
            service_url(stack.kept), groups, sizes, absent, staging or Staging(), log
        ) as nodes:
            yield World(stack, groups, nodes)
