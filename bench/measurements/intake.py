"""Jobs per second that the service accepts, committed with fsync on, beside SLURM."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from uuid import uuid4

import orjson

from bench import slurm
from bench.figures import Better, Figure, Samples
from bench.load import UnexpectedAnswerError, request, send
from bench.registry import Options, measurement
from bench.stack import Stack, running_stack

CONNECTIONS = 8


@dataclass(frozen=True)
class _Way:
    """One way to submit many jobs."""

    what: str
    jobs_a_post: int
    target: float
    # Share of --jobs in one sample. Single submits are slower.
    share: float = 1.0
    # Least ratio to each peer, by its name.
    least: Mapping[str, float] = field(default_factory=dict)


_WAYS = (
    _Way(
        *("intake, 50 jobs a post, 8 connections", 50, 6000),
        least={slurm.SBATCH: 15, slurm.C_API: 2},
    ),
    _Way("intake, 1,000 jobs a post, 8 connections", 1000, 12000),
    _Way("intake, single task-submit, 8 connections", 1, 800, share=0.2),
)


@measurement("intake")
def intake(options: Options) -> Iterator[Figure]:
    """Measure ours and the peer's in turn: other load on the machine then affects both."""
    ours: dict[str, list[float]] = {way.what: [] for way in _WAYS}
    theirs: dict[str, list[float]] = {}
    for turn in range(options.repeat):
        with running_stack(options.folder / f"intake-{turn}", workers=options.workers) as stack:
            # Warm-up: connections, prepared statements, code that is imported late.
            _accepted_a_second(stack, 50, 1000, options.limit_s)
            for way in _WAYS:
                count = max(way.jobs_a_post, round(options.jobs * way.share))
                ours[way.what].append(
                    _accepted_a_second(stack, way.jobs_a_post, count, options.limit_s)
                )
        if options.peers:
            for who, rate in slurm.intake_rates(
                options.folder / f"slurm-{turn}", options.limit_s
            ).items():
                theirs.setdefault(who, []).append(rate)
    peers = [Samples(values, who) for who, values in theirs.items()]
    for way in _WAYS:
        samples = Samples(ours[way.what], note=f"{options.workers} processes of serve")
        yield Figure(way.what, "jobs/s", Better.HIGHER, samples, way.target, peers, way.least)


def job(secret: str) -> dict[str, object]:
    """Return a job as the published client posts it, with a new bucket."""
    return {
        "secret": secret,
        "bucketid": str(uuid4()),
        "name": "default",
        "codeversion": "psi4:1.5",
        "cores": 1,
        "memorymb": 4000,
        "timelimit": 86400,
    }


def _accepted_a_second(stack: Stack, jobs_a_post: int, count: int, limit_s: float) -> float:
    jobs = [job(stack.user_secret) for _ in range(count)]
    if jobs_a_post == 1:
        requests = [request("/v22_1/task-submit", orjson.dumps(one)) for one in jobs]
    else:
        requests = [
            request("/v22_1/bulk/task-submit", orjson.dumps(jobs[first : first + jobs_a_post]))
            for first in range(0, count, jobs_a_post)
        ]
    load = send(stack.port, requests, connections=CONNECTIONS, limit_s=limit_s)
    accepted: set[str] = set()
    for answer in load.answers:
        data = orjson.loads(answer.body)
        if isinstance(data, str):
            accepted.add(data)
        else:
            accepted.update(entry["data"] for entry in data if entry["status"] == 200)
    if len(accepted) != count:
        raise UnexpectedAnswerError(f"The service accepted {len(accepted)} of {count} jobs.")
    return count / load.seconds
