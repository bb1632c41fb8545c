"""How soon a user who waits, or cancels, sees it done; and what waiting costs the service."""

from __future__ import annotations

import os
from collections.abc import Iterator

from bench.crowd import add_crowd
from bench.figures import Better, Figure, Samples, percentile
from bench.following import awaiting, cancel_delays, end_delays
from bench.node_stack import running_node_stack
from bench.registry import Options, measurement
from bench.stack import running_stack
from leruli_queue.jobs.states import JobState

# As `add_crowd` gives an end to every job but those that are received.
_NOT_OVER = (JobState.RECEIVED,)


@measurement("follow")
def follow(options: Options) -> Iterator[Figure]:
    """Measure `task-wait`, the calls of a client that waits for many jobs, and `task-cancel`."""
    samples = max(2, options.calls // 5)
    with running_stack(options.folder / "wait", workers=1) as stack:
        delays = end_delays(stack, add_crowd(stack, samples, _NOT_OVER))
        yield Figure(
            "end of a job in the database to the end of `leruli task-wait`, p95",
            "s",
            Better.LOWER,
            Samples([percentile(delays, 0.95)]),
            0.5,
        )
        many = add_crowd(stack, options.folders, _NOT_OVER, ids=options.folders)
        with awaiting(stack, many) as awaited:
            calls, cpu = awaited.at_rest(2 * options.settle_s)
    name = f"{len(many):,} jobs awaited by one client"
    yield Figure(f"{name}: calls in 10 s", "", Better.LOWER, Samples([calls]), 1)
    yield Figure(f"{name}: CPU of serve", "%", Better.LOWER, Samples([cpu]), 1)
    cores = len(os.sched_getaffinity(0))
    with running_node_stack(options.folder / "cancel", slots=cores) as nodes:
        delays = cancel_delays(nodes, samples, options.limit_s)
    yield Figure(
        "task-cancel to TERM in the container, p95",
        "s",
        Better.LOWER,
        Samples([percentile(delays, 0.95)]),
        1,
    )
