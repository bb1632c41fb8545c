"""What Nomad is asked for instead of what jobs ask for."""

from __future__ import annotations

from bisect import bisect_left

import pytest

from leruli_queue.jobs.sizes import memory_steps

STEPS = memory_steps(frozenset({(64, 249_036)}))


def asked(memory_mb: int, steps: tuple[int, ...] = STEPS) -> int:
    return steps[bisect_left(steps, memory_mb)]


@pytest.mark.parametrize(
    "memory_mb", [16, 100, 500, 1000, 1500, 2000, 4000, 4096, 6144, 8192, 12_000, 16_384, 64_000]
)
def test_sizes_as_people_write_them_stay_as_they_are(memory_mb: int) -> None:
    """H4: the manual's 4000 among them."""
    assert asked(memory_mb) == memory_mb


def test_little_is_added_and_few_sizes_are_left() -> None:
    """H4: memory computed for each input was a parent for each job."""
    asks = {memory_mb: asked(memory_mb) for memory_mb in range(16, 249_037)}
    assert all(m <= rounded <= max(m * 1.05, m + 1) for m, rounded in asks.items())
    assert len(set(asks.values())) < 600


def test_no_job_becomes_too_large_for_a_node_and_no_node_takes_fewer() -> None:
    """H4: a node's memory, and its part for each of so many jobs, is a step."""
    for jobs in range(1, 65):
        assert asked(249_036 // jobs) == 249_036 // jobs


def test_a_thousand_different_nodes_make_no_endless_list() -> None:
    sizes = frozenset((4096, 100_000 + number) for number in range(5000))
    steps = memory_steps(sizes)
    assert len(steps) < 16_000
    assert {memory_mb for _, memory_mb in sizes} <= set(steps)
    assert memory_steps(frozenset()) == ()
