"""The steps of memory to which jobs are rounded up in Nomad."""

from __future__ import annotations

from bisect import bisect_left

import pytest

from leruli_queue.jobs.resources import memory_steps

STEPS = memory_steps(frozenset({(64, 249_036)}))


def asked(memory_mb: int, steps: tuple[int, ...] = STEPS) -> int:
    return steps[bisect_left(steps, memory_mb)]


@pytest.mark.parametrize(
    "memory_mb", [16, 100, 500, 1000, 1500, 2000, 4000, 4096, 6144, 8192, 12_000, 16_384, 64_000]
)
def test_amounts_as_people_write_them_are_steps(memory_mb: int) -> None:
    """H4: for instance the manual's 4000."""
    assert asked(memory_mb) == memory_mb


def test_rounding_adds_little_and_leaves_few_amounts() -> None:
    """H4: memory that is computed for each input made a parent for each job."""
    asks = {memory_mb: asked(memory_mb) for memory_mb in range(16, 249_037)}
    assert all(m <= rounded <= max(m * 1.05, m + 1) for m, rounded in asks.items())
    assert len(set(asks.values())) < 600


def test_rounding_makes_no_job_too_large_and_no_node_take_fewer() -> None:
    """H4: a node's memory is a step, also divided by each number of jobs."""
    for jobs in range(1, 65):
        assert asked(249_036 // jobs) == 249_036 // jobs


def test_a_thousand_different_nodes_make_a_bounded_list() -> None:
    sizes = frozenset((4096, 100_000 + number) for number in range(5000))
    steps = memory_steps(sizes)
    assert len(steps) < 16_000
    assert {memory_mb for _, memory_mb in sizes} <= set(steps)
    assert memory_steps(frozenset()) == ()
