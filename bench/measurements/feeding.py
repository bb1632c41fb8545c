"""Rate of dispatches, delay until a free slot is used again, and delay of a change of state.

Runs on 50 simulated nodes; bench/README.md says which of their parts are real.
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
# More slots than jobs: every dispatched attempt is placed.
_FREE_CORES = 64
_DISPATCHED = 2000
_LONG_S = 600.0
# 400 slots, always full; about 20 of them become free per second.
_FULL_CORES = 8
_ENDING = 1600
_SHORT_S = 20.0
# A real node (docs/developers/short-jobs.md) takes 0.41 s from start grant to command. Docker takes
# 0.34 s of it to create and start a container (measured with one at a time).
# Nomad's client collects updates for 0.2 s. Without these delays a task would end and the next one
# run within that time: the allocation would look unchanged, and Nomad would report it only once a
# second.
_STAGING = Staging(stage_in_s=0.15, container_start_s=0.25, stage_out_s=0.1)


@measurement("feeding")
def feeding(options: Options) -> Iterator[Figure]:
    """Measure with free slots, then with a backlog on full slots; each sample has a new stack."""
    yield from _dispatches(options)
    yield from _full_nodes(options)


def _dispatches(options: Options) -> Iterator[Figure]:
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


def _full_nodes(options: Options) -> Iterator[Figure]:
    outcomes: list[Outcome] = []
    workload = Workload(_ENDING, ONE_CORE, _SHORT_S)
    jobs = draw_jobs(workload, groups=1, users=1, seed=_SEED)
    for turn in range(options.repeat):
        with running_world(
            options.folder / f"full-{turn}", _sizes(_FULL_CORES), staging=_STAGING
        ) as world:
            outcomes.append(run_to_the_end(world, jobs, limit_s=options.limit_s))
    where = f"{_NODES} full nodes, {_NODES * _FULL_CORES / _SHORT_S:.0f} jobs/s"
    note = cpu_note([outcome.cpu_ms for outcome in outcomes])
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
    """Return the rates, with the CPU times as their note."""
    return Samples([rate for rate, _ in taken], who, note=cpu_note([cpu for _, cpu in taken]))


def cpu_note(samples: Sequence[Mapping[str, float]]) -> str:
    """Return a note with the median of each part, in ms of CPU time per job."""
    parts = (
        f"{part} {sorted(used[part] for used in samples)[len(samples) // 2]:.1f}"
        for part in samples[0]
    )
    return f"ms of CPU a job: {', '.join(parts)}"
