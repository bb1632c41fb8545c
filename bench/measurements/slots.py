"""Jobs of a second on a simulated cluster: in slots, and with agents from before slots.

Runs on 50 simulated nodes; bench/README.md says which of their parts are real.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bench.figures import Better, Figure, Samples
from bench.measurements.feeding import cpu_note
from bench.registry import Options, measurement
from bench.simulation.nodes import Agents, NodeSize
from bench.simulation.outcome import Outcome
from bench.simulation.run import run_to_the_end
from bench.simulation.workload import ONE_CORE, Workload, draw_jobs
from bench.simulation.world import running_world

_NODES = 50
_CORES = 12
_USERS = 4
_SEED = 19
_SLOT_MAX_S = 60.0
_SECOND = Workload(15_000, ONE_CORE, 1.0, 0.25)
# Without slots a job of a second costs as much as any other.
_FEWER = Workload(1500, ONE_CORE, 1.0, 0.25)
_BEFORE = "the same without slots"
_LAG = "end of a command to the next in its slot"


@measurement("slots")
def slots(options: Options) -> Iterator[Figure]:
    """Measure both in turns; each sample has a new stack."""
    ours: list[Outcome] = []
    before: list[Outcome] = []
    for _ in range(options.repeat):
        ours.append(_run(options, _SECOND, Agents()))
        before.append(_run(options, _FEWER, Agents(know_slots=False)))
    where = f"jobs of a second, {_NODES} nodes of {_CORES} slots"
    yield Figure(
        f"ends of {where}",
        "jobs/s",
        Better.HIGHER,
        _rates(ours),
        target=300,
        peers=[_rates(before, _BEFORE)],
    )
    yield Figure(
        f"CPU of service, database, dispatcher and Nomad's server, {where}",
        "ms a job",
        Better.LOWER,
        _control_plane(ours),
        target=8,
        peers=[_control_plane(before, _BEFORE)],
    )
    yield Figure(
        f"{_LAG}, {where}, median",
        "s",
        Better.LOWER,
        Samples([outcome.lags[_LAG].median for outcome in ours]),
    )


def _run(options: Options, workload: Workload, agents: Agents) -> Outcome:
    jobs = draw_jobs(workload, groups=1, users=_USERS, seed=_SEED)
    with running_world(
        options.folder / f"slots-{agents.know_slots}",
        [NodeSize(group=0, cores=_CORES, memory_mb=2000 * _CORES)] * _NODES,
        users=_USERS,
        workers=options.workers,
        slot_max_s=_SLOT_MAX_S,
        agents=agents,
    ) as world:
        return run_to_the_end(world, jobs, limit_s=options.limit_s)


def _rates(outcomes: Sequence[Outcome], who: str = "") -> Samples:
    note = cpu_note([outcome.cpu_ms for outcome in outcomes])
    return Samples([outcome.jobs_a_second for outcome in outcomes], who, note=note)


def _control_plane(outcomes: Sequence[Outcome], who: str = "") -> Samples:
    """Return the CPU time per job of all parts but the simulated nodes."""
    return Samples(
        [sum(ms for part, ms in outcome.cpu_ms.items() if part != "nodes") for outcome in outcomes],
        who,
    )
