"""Run jobs on simulated nodes until they are dispatched or have ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from bench.simulation.cpu import used
from bench.simulation.outcome import Outcome, rate, summarise
from bench.simulation.watch import Progress, progress, what_was_seen
from bench.simulation.workload import SimulatedJob, submit
from bench.simulation.world import World
from leruli_queue.errors import SetupError

_POLL_S = 1.0
# The dispatcher records every two seconds which nodes are alive. Earlier it sends them no attempt.
_NODES_NOTED_WITHIN_S = 5.0
_IDLE_S = 10.0


def run_to_the_end(
    world: World,
    jobs: Sequence[SimulatedJob],
    *,
    limit_s: float,
    watch: Callable[[Progress], None] = lambda _: None,
) -> Outcome:
    """Submit jobs, wait until each has ended, and return the results.

    Raises
    ------
    TimeoutError
        If they have not ended after ``limit_s``.
    SetupError
        If a part ended, or if database and nodes disagree about ended jobs.
    """
    time.sleep(_NODES_NOTED_WITHIN_S)
    idle_cores = _idle(world)
    before, began = world.cpu_by_part(), time.monotonic()
    submit(world.stack.port, world.groups, jobs, limit_s=limit_s)
    counts = _wait(world, lambda now: now.open == 0, limit_s, watch)
    cpu, wall_s = used(before, world.cpu_by_part()), time.monotonic() - began
    if counts.ended != len(jobs):
        raise SetupError(f"In the database {counts.ended} of {len(jobs)} jobs ended.")
    records = world.nodes.records()
    seen = what_was_seen(world.stack.database_url)
    receipted = {record.job for record in records if record.receipted}
    if len(receipted) != len(jobs):
        raise SetupError(f"The nodes sent receipts of {len(receipted)} of {len(jobs)} jobs.")
    return summarise(records, seen, world.nodes.cores, cpu, idle_cores, wall_s)


def dispatch_rate(
    world: World, jobs: Sequence[SimulatedJob], *, limit_s: float
) -> tuple[float, dict[str, float]]:
    """Submit jobs for which there are slots; return dispatches per second, and CPU ms by part.

    The rate is from the first to the last dispatch, so the start of the dispatcher's work counts.
    The CPU times are per job.
    """
    time.sleep(_NODES_NOTED_WITHIN_S)
    before = world.cpu_by_part()
    submit(world.stack.port, world.groups, jobs, limit_s=limit_s)
    _wait(world, lambda now: now.received == 0, limit_s, lambda _: None)
    deadline = time.monotonic() + limit_s
    while len(seen := what_was_seen(world.stack.database_url).dispatched) < len(jobs):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{len(seen)} of {len(jobs)} jobs were dispatched in {limit_s} s.")
        time.sleep(_POLL_S)
    cpu = used(before, world.cpu_by_part())
    return rate(seen.values()), {part: 1000 * s / len(jobs) for part, s in cpu.items()}


def _idle(world: World) -> dict[str, float]:
    """Return the cores that each part uses without jobs: heartbeats, node reports, polls."""
    before = world.cpu_by_part()
    time.sleep(_IDLE_S)
    return {part: s / _IDLE_S for part, s in used(before, world.cpu_by_part()).items()}


def _wait(
    world: World,
    until: Callable[[Progress], bool],
    limit_s: float,
    watch: Callable[[Progress], None],
) -> Progress:
    deadline = time.monotonic() + limit_s
    while True:
        counts = progress(world.stack.database_url)
        watch(counts)
        if until(counts):
            return counts
        if time.monotonic() > deadline:
            raise TimeoutError(f"After {limit_s:.0f} s the jobs are: {counts}")
        world.cpu_by_part()  # raises if a part has ended
        time.sleep(_POLL_S)
