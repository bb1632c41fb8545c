"""How large machines are, and what is too large for them."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import TypeAlias

Size: TypeAlias = tuple[int, int]
"""Cores, and memory in MB."""

_LEAST_MB = 16
# Of all nodes together: a group may have thousands of different ones.
_MOST_PARTS = 4096


def one_fits(sizes: Iterable[Size], cores: int, memory_mb: int) -> bool:
    """Tell whether a node of these sizes, when it is empty, is large enough for a job."""
    return any(size[0] >= cores and size[1] >= memory_mb for size in sizes)


@lru_cache(maxsize=256)
def memory_steps(sizes: frozenset[Size]) -> tuple[int, ...]:
    """Return the amounts of memory (MB, ascending) that Nomad is asked for on nodes of these sizes.

    A job gets the smallest one that holds what it asks for, so that sizes which differ by little
    are one to Nomad. At most 5 % is added, and nothing to an amount as people write it: two
    decimal digits, or eighths of a power of two. Every node's memory is a step, and so is its part
    for each number of jobs that its cores allow: rounding costs no node a job that it was divided
    for, and makes no job too large for a node.
    """
    most = max((memory_mb for _, memory_mb in sizes), default=0)
    most_jobs = _MOST_PARTS // max(1, len(sizes)) + 1
    steps = {
        memory_mb // jobs
        for cores, memory_mb in sizes
        for jobs in range(1, min(cores, most_jobs) + 1)
    }
    unit = 1
    while unit <= most:
        # From 20 to 100 by ones; below, where one is more than 5 %, by halves.
        steps.update(unit * digits for digits in range(20, 100))
        steps.update(unit * digits // 2 for digits in range(20, 40))
        unit *= 10
    unit = 1
    while unit <= most:
        steps.update(unit * eighths for eighths in range(8, 16))
        unit *= 2
    return tuple(sorted(step for step in steps if _LEAST_MB <= step <= most))
