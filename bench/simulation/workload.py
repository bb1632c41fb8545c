"""What is submitted: jobs of several shapes, users and groups, drawn from a seed."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import orjson

from bench.load import UnexpectedAnswerError, request, send
from bench.simulation.groups import SimulatedGroup

_JOBS_A_POST = 500
_CONNECTIONS = 4
# Far above what any of these takes: a limit that is reached would change what is simulated.
_TIME_LIMIT_S = 86400


@dataclass(frozen=True)
class SimulatedJob:
    """A job whose bucket tells the node how long its command runs, and how it ends."""

    group: int
    user: int
    cores: int
    memory_mb: int
    seconds: float
    exit_code: int
    # Makes its bucket's name its own.
    unique: str

    @property
    def bucket(self) -> str:
        """The name that nodesim reads."""
        return f"sim-{round(1000 * self.seconds)}-{self.exit_code}-{self.unique}"


@dataclass(frozen=True)
class Shape:
    """Jobs of one kind, and how many of all are of it."""

    cores: int
    memory_mb: int
    share: float


ONE_CORE = (Shape(1, 1000, 1.0),)
# Mostly small, some that fill half a node: what a group of chemists has.
MIXED = (Shape(1, 1000, 0.6), Shape(2, 4000, 0.25), Shape(4, 8000, 0.15))


@dataclass(frozen=True)
class Workload:
    """How many jobs of which shapes, and how long they take (log-normal, with this median)."""

    jobs: int
    shapes: Sequence[Shape]
    median_s: float
    # Of the logarithm; 0: all take the median.
    spread: float = 0.0
    # No longer than this many medians: a tail of one job would be all that a run waits for.
    at_most_medians: float = 10.0
    failing: float = 0.0

    @property
    def mean_s(self) -> float:
        """Roughly how long a job takes on average; the cut tail is left out."""
        return self.median_s * math.exp(self.spread**2 / 2)


def draw_jobs(workload: Workload, *, groups: int, users: int, seed: int) -> list[SimulatedJob]:
    """Draw jobs; the same seed gives the same ones, in the same order."""
    draw = random.Random(seed)  # noqa: S311  # no secret
    weights = [shape.share for shape in workload.shapes]
    jobs = []
    for _ in range(workload.jobs):
        (shape,) = draw.choices(workload.shapes, weights)
        factor = min(draw.lognormvariate(0.0, workload.spread), workload.at_most_medians)
        jobs.append(
            SimulatedJob(
                group=draw.randrange(groups),
                user=draw.randrange(users),
                cores=shape.cores,
                memory_mb=shape.memory_mb,
                seconds=workload.median_s * factor,
                exit_code=int(draw.random() < workload.failing),
                unique=str(UUID(int=draw.getrandbits(128), version=4)),
            )
        )
    return jobs


def submit(
    port: int, groups: Sequence[SimulatedGroup], jobs: Sequence[SimulatedJob], *, limit_s: float
) -> list[str]:
    """Submit jobs by bulk/task-submit, in order for each user; return the ids that came back."""
    by_user: dict[str, list[dict[str, object]]] = {}
    for job in jobs:
        secret = groups[job.group].user_secrets[job.user]
        by_user.setdefault(secret, []).append(
            {
                "secret": secret,
                "bucketid": job.bucket,
                "name": "simulated",
                "codeversion": "sim:1",
                "cores": job.cores,
                "memorymb": job.memory_mb,
                "timelimit": _TIME_LIMIT_S,
            }
        )
    posts = [
        request("/v22_1/bulk/task-submit", orjson.dumps(bodies[first : first + _JOBS_A_POST]))
        for bodies in by_user.values()
        for first in range(0, len(bodies), _JOBS_A_POST)
    ]
    load = send(port, posts, connections=_CONNECTIONS, limit_s=limit_s)
    accepted = [
        entry["data"]
        for answer in load.answers
        for entry in orjson.loads(answer.body)
        if entry["status"] == 200
    ]
    if len(set(accepted)) != len(jobs):
        raise UnexpectedAnswerError(f"{len(set(accepted))} of {len(jobs)} jobs were accepted")
    return accepted
