"""Jobs of several sizes, users and groups, drawn at random from a seed."""

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
# Far above the run time of any job: a job at its limit would change the simulation.
_TIME_LIMIT_S = 86400


@dataclass(frozen=True)
class SimulatedJob:
    """A job. The name of its bucket holds run time and exit code for the simulated node."""

    group: int
    user: int
    cores: int
    memory_mb: int
    seconds: float
    exit_code: int
    # Makes the name of the bucket unique.
    unique: str

    @property
    def bucket(self) -> str:
        """Name of the bucket, from which nodesim reads run time (ms) and exit code."""
        return f"sim-{round(1000 * self.seconds)}-{self.exit_code}-{self.unique}"


@dataclass(frozen=True)
class Shape:
    """Resources of a job, and the share of jobs that have them."""

    cores: int
    memory_mb: int
    share: float


ONE_CORE = (Shape(1, 1000, 1.0),)
# Typical of a group of chemists: mostly small jobs, some that fill half a node.
MIXED = (Shape(1, 1000, 0.6), Shape(2, 4000, 0.25), Shape(4, 8000, 0.15))


@dataclass(frozen=True)
class Workload:
    """Number of jobs, their resources, and their log-normal run time."""

    jobs: int
    shapes: Sequence[Shape]
    median_s: float
    # Standard deviation of the logarithm; with 0 every job runs for the median.
    spread: float = 0.0
    # Longest run time in medians. Otherwise a run would end with a long wait for a single job.
    at_most_medians: float = 10.0
    failing: float = 0.0

    @property
    def mean_s(self) -> float:
        """Approximate mean run time; it ignores that ``at_most_medians`` cuts the tail."""
        return self.median_s * math.exp(self.spread**2 / 2)


def draw_jobs(workload: Workload, *, groups: int, users: int, seed: int) -> list[SimulatedJob]:
    """Draw jobs. The same seed gives the same jobs in the same order."""
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
    """Submit jobs by bulk/task-submit, in order for each user; return the ids in the answers."""
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
        raise UnexpectedAnswerError(
            f"The service accepted {len(set(accepted))} of {len(jobs)} jobs."
        )
    return accepted
