"""Resources of jobs and nodes: which job fits a node, and which memory Nomad is asked for."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import TypeAlias

Resources: TypeAlias = tuple[int, int]
"""Cores, and memory in MB."""

_LEAST_MB = 16
# Bounds the steps of all nodes together: a group may have thousands of different nodes.
_MOST_PARTS = 4096


def any_fits(nodes: Iterable[Resources], cores: int, memory_mb: int) -> bool:
    """Tell whether one of the nodes, while it is empty, is large enough for a job."""
    return any(node[0] >= cores and node[1] >= memory_mb for node in nodes)


@lru_cache(maxsize=256)
def memory_steps(nodes: frozenset[Resources]) -> tuple[int, ...]:
    """Return the amounts of memory (MB, ascending) that Nomad is asked for on these nodes.

    A job is rounded up to the next step. So jobs whose memory differs by little share a parent job.

    - Rounding adds at most 5 %. It adds nothing to an amount as people write it: two decimal
      digits, or eighths of a power of two.
    - Every node's memory is a step. So rounding makes no job too large for a node.
    - So is each node's memory divided by each number of jobs that its cores allow. So a node still
      takes as many jobs as its memory was divided for.
    """
    most = max((memory_mb for _, memory_mb in nodes), default=0)
    most_jobs = _MOST_PARTS // max(1, len(nodes)) + 1
    steps = {
        memory_mb // jobs
        for cores, memory_mb in nodes
        for jobs in range(1, min(cores, most_jobs) + 1)
    }
    unit = 1
    while unit <= most:
        # From 20 to 99 in whole units. From 10 to 20 in halves, as one unit is more than 5 % there.
        steps.update(unit * digits for digits in range(20, 100))
        steps.update(unit * digits // 2 for digits in range(20, 40))
        unit *= 10
    unit = 1
    while unit <= most:
        steps.update(unit * eighths for eighths in range(8, 16))
        unit *= 2
    return tuple(sorted(step for step in steps if _LEAST_MB <= step <= most))
