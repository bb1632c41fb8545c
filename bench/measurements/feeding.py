"""How fast the dispatcher feeds Nomad, and how long a free slot and a status change take.

On 50 simulated nodes; bench/README.md says what of them is real.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from bench.figures import Better, Figure, Samples
from bench.registry import Options, measurement
from bench.simulation.bare import bare_rate
from bench.simulation.nodes import NodeSize, Staging
from bench.simulation.outcome import Outcome
from bench.simulation.run import dispatch_rate, run_to_the_end
from bench.simulation.workload import ONE_CORE, Workload, draw_jobs
from bench.simulation.world import running_world

_NODES = 50
_SEED = 6
# So many slots that they are not filled: what is dispatched has a place.
_FREE_CORES = 64
_DISPATCHED = 2000
_LONG_S = 600.0
# 400 slots that are always full, of which about 20 become free a second.
_FULL_CORES = 8
_ENDING = 1600
_SHORT_S = 20.0
# As on a real one: from leave to start to the command 0.41 s (docs/developers/short-jobs.md), most
# of it Docker's, which took 0.34 s from making a container to its start, one at a time. Without
# that a task ends and the next runs within the 0.2 s in which Nomad's client collects news: the
# allocation is as it was then, and Nomad tells of it only once a second.
_STAGING = Staging(stage_in_s=0.15, container_start_s=0.25, stage_out_s=0.1)


@measurement("feeding")
def feeding(options: Options) -> Iterator[Figure]:
    """First with free slots, then with a backlog on full ones; each time a stack of its own."""
    ours: list[tuple[float, Mapping[str, float]]] = []
    bare: list[tuple[float, Mapping[str, float]]] = []
    jobs = draw_jobs(Workload(_DISPATCHED, ONE_CORE, _LONG_S), groups=1, users=1, seed=_SEED)
    for turn in range(options.repeat):
        with running_world(options.folder / f"feeding-{turn}", _sizes(_FREE_CORES)) as world:
            ours.append(dispatch_rate(world, jobs, limit_s=options.limit_s))
        with running_world(
            options.folder / f"bare-{turn}", _sizes(_FREE_CORES), dispatching=False
        ) as world:
            bare.append(bare_rate(world, jobs, limit_s=options.limit_s))
    yield Figure(
        f"dispatches while slots are free, {_NODES} nodes",
        "jobs/s",
        Better.HIGHER,
        _samples(ours),
        target=100,
        peers=[_samples(bare, "Nomad alone, a bare loop")],
    )
    outcomes: list[Outcome] = []
    workload = Workload(_ENDING, ONE_CORE, _SHORT_S)
    jobs = draw_jobs(workload, groups=1, users=1, seed=_SEED)
    for turn in range(options.repeat):
        with running_world(
            options.folder / f"full-{turn}", _sizes(_FULL_CORES), staging=_STAGING
        ) as world:
            outcomes.append(run_to_the_end(world, jobs, limit_s=options.limit_s))
    where = f"{_NODES} full nodes, {_NODES * _FULL_CORES / _SHORT_S:.0f} jobs/s"
    note = _said([outcome.cpu_ms for outcome in outcomes])
    lags = [outcome.lags for outcome in outcomes]
    yield Figure(
        f"slot free to the next command, {where}, median",
        "s",
        Better.LOWER,
        Samples([lag["slot free to the next command"].median for lag in lags], note=note),
        target=1.5,
    )
    yield Figure(
        f"running on a node to running in the database, {where}, p95",
        "s",
        Better.LOWER,
        Samples([lag["running to running in the database"].p95 for lag in lags]),
        target=1,
    )


def _sizes(cores: int) -> list[NodeSize]:
    return [NodeSize(group=0, cores=cores, memory_mb=2000 * cores)] * _NODES


def _samples(taken: Sequence[tuple[float, Mapping[str, float]]], who: str = "") -> Samples:
    """Return the rates; the CPU beside them is their note."""
    return Samples([rate for rate, _ in taken], who, note=_said([cpu for _, cpu in taken]))


def _said(samples: Sequence[Mapping[str, float]]) -> str:
    parts = (
        f"{part} {sorted(used[part] for used in samples)[len(samples) // 2]:.1f}"
        for part in samples[0]
    )
    return f"ms of CPU a job: {', '.join(parts)}"
