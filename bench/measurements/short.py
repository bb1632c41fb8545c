"""Short jobs of one user on a real node: in slots with fresh containers, and in shared containers.

Each job has its own bucket, limits and receipt, and writes its own id, which is read back from its
bucket. The clock is that of the measurement `node`. The peers run the same command on the same
cores in the same turn, without buckets and receipts.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from bench import containers, slurm
from bench.figures import Better, Figure, Samples
from bench.node_stack import IMAGE, MEMORY_MB, running_node_stack
from bench.registry import Options, measurement
from bench.short_drains import AGENT, CONTROL_PLANE, SLOTS, Drains, Kind, measure
from bench.short_jobs import (
    XTB_IMAGE,
    XTB_MEMORY_MB,
    bare_rate,
    bare_xtb_rate,
    true_job,
    xtb_job,
)

# Divisors of --node-jobs: a container for each job takes long, and so does xtb.
_FRESH_SHARE = 3
_XTB_SHARE = 2
_DOCKER = "docker run"
_XARGS = "xargs, bare processes"
_XTB = "xargs, bare xtb"


@measurement("short")
def short(options: Options) -> Iterator[Figure]:
    """Measure `true` in fresh and in shared containers, in turns with the peers."""
    cores = len(os.sched_getaffinity(0))
    jobs = options.node_jobs
    shared = Drains(Kind(true_job, IMAGE, MEMORY_MB, shares=True, jobs=jobs))
    fresh = Drains(Kind(true_job, IMAGE, MEMORY_MB, shares=False, jobs=jobs // _FRESH_SHARE))
    docker: list[float] = []
    xargs: list[float] = []
    bare: list[float] = []
    with running_node_stack(options.folder / "short", slots=cores, settings=SLOTS) as stack:
        for turn in range(options.repeat):
            measure(stack, shared, options.limit_s)
            measure(stack, fresh, options.limit_s)
            docker.append(containers.bare_rate(max(2, jobs // _FRESH_SHARE), cores))
            files = [true_job(str(number)) for number in range(jobs)]
            xargs.append(bare_rate(options.folder / f"bare-{turn}", files, cores))
            if options.peers:
                folder = options.folder / f"slurm-{turn}"
                bare.append(slurm.drain_rate(folder, jobs, options.limit_s))
    peers = [
        Samples(rates, who)
        for who, rates in ((slurm.DRAIN, bare), (_DOCKER, docker), (_XARGS, xargs))
        if rates
    ]
    yield from _figures(cores, shared, fresh, peers)


def _figures(
    cores: int, shared: Drains, fresh: Drains, peers: Sequence[Samples]
) -> Iterator[Figure]:
    yield Figure(
        f"`true` of one user in shared containers, {cores} slots",
        "jobs/s",
        Better.HIGHER,
        Samples(shared.rates, note=shared.note),
        target=42,
        peers=peers,
        least={slurm.DRAIN: 1},
    )
    yield Figure(
        f"`true` of one user in fresh containers, {cores} slots",
        "jobs/s",
        Better.HIGHER,
        Samples(fresh.rates, note=fresh.note),
        peers=peers,
        least={_DOCKER: 0.95},
    )
    gap = "end of a command to the start of the next in its slot"
    for drains, name, target in ((shared, "shared", 0.03), (fresh, "fresh", 0.35)):
        gaps = Samples(drains.gaps_s)
        yield Figure(f"{gap}, {name} containers, median", "s", Better.LOWER, gaps, target)
    what = "CPU of {}, a short job in a shared container"
    agent, plane = Samples(shared.part(AGENT)), Samples(shared.part(*CONTROL_PLANE))
    yield Figure(what.format("the node agent"), "ms", Better.LOWER, agent, target=6)
    yield Figure(what.format("service, database and Nomad"), "ms", Better.LOWER, plane, target=8)


@measurement("xtb")
def xtb(options: Options) -> Iterator[Figure]:
    """Measure xtb on small molecules, in turns with the bare program."""
    cores = len(os.sched_getaffinity(0))
    jobs = options.node_jobs
    shared = Drains(Kind(xtb_job, XTB_IMAGE, XTB_MEMORY_MB, shares=True, jobs=jobs // _XTB_SHARE))
    fresh = Drains(Kind(xtb_job, XTB_IMAGE, XTB_MEMORY_MB, shares=False, jobs=jobs // _FRESH_SHARE))
    bare: list[float] = []
    with running_node_stack(
        options.folder / "xtb", slots=cores, settings=SLOTS, images=(XTB_IMAGE,)
    ) as stack:
        for turn in range(options.repeat):
            measure(stack, shared, options.limit_s)
            measure(stack, fresh, options.limit_s)
            files = [xtb_job(str(number)) for number in range(jobs)]
            bare.append(bare_xtb_rate(options.folder / f"bare-xtb-{turn}", files, cores))
    peer = Samples(bare, _XTB)
    for drains, name, least in ((shared, "shared", {_XTB: 0.3}), (fresh, "fresh", {})):
        yield Figure(
            f"xtb on small molecules, {name} containers, {cores} slots",
            "jobs/s",
            Better.HIGHER,
            Samples(drains.rates, note=drains.note),
            peers=[peer],
            least=least,
        )
