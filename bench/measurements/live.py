"""How late a followed line is, and what following costs a node."""

from __future__ import annotations

import os
from collections.abc import Iterator

from bench.figures import Better, Figure, Samples, percentile
from bench.live_output import agent_cpu, agent_cpu_followed, cancel, line_delays, running_writers
from bench.node_stack import running_node_stack
from bench.registry import Options, measurement

_FOLLOWERS = 200
# Of all cores of the node: more would make its other jobs slower than by this share.
_SHARE = 0.05


@measurement("live")
def live(options: Options) -> Iterator[Figure]:
    """Measure live output: of one job with `task-logs -f`, and of many jobs of one node."""
    cores = len(os.sched_getaffinity(0))
    with running_node_stack(
        options.folder / "live",
        slots=_FOLLOWERS,
        settings={"LERULI_NODE_MEMORY_MB": "16000"},
    ) as stack:
        [job] = running_writers(stack, 1, 0.2, options.limit_s)
        delays = line_delays(stack, job, 3 * options.calls)
        yield Figure(
            "a line that a job wrote to the line shown by `task-logs -f`, p95",
            "s",
            Better.LOWER,
            Samples([percentile(delays, 0.95)]),
            2,
        )
        cancel(stack, [job], options.limit_s)
        jobs = running_writers(stack, _FOLLOWERS, 1, options.limit_s)
        quiet, followed = [], []
        for _ in range(options.repeat):
            quiet.append(agent_cpu(stack, 4 * options.settle_s))
            followed.append(agent_cpu_followed(stack, jobs, 4 * options.settle_s))
        cancel(stack, jobs, options.limit_s)
    more = [after - before for before, after in zip(quiet, followed, strict=True)]
    yield Figure(
        f"{_FOLLOWERS} jobs of one node, each followed: CPU time of its agent more than without",
        "%",
        Better.LOWER,
        Samples(more, note=f"of one core; {_SHARE:.0%} of {cores} cores may be used"),
        100 * _SHARE * cores,
        [Samples(quiet, "all of its CPU time without followers")],
    )
