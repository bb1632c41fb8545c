"""Jobs from submit to end on a real node, with bare `docker run` beside them.

Each job runs `true` from its own bucket, which is made before the clock starts. The clock runs from
the post that submits all jobs until the last one is completed in the database. So it includes
stage-in, the container, stage-out and the receipt.
Docker's clock runs from the first `docker run` to the end of the last one. Image, limits and number
at once are the same.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from statistics import median

import httpx

from bench.containers import Lives, bare_rate, watched_containers
from bench.figures import Better, Figure, Samples, percentile
from bench.load import UnexpectedAnswerError
from bench.node_stack import NodeStack, running_node_stack
from bench.registry import Options, measurement
from leruli_queue.embedded.identities import service_url

# Of what bare `docker run` does in the same run.
_SHARE = 0.5
# Divisors of --node-jobs. Docker's rate shows with fewer containers, and delays with fewer jobs.
_BARE_SHARE = 3
_SHORT_DRAIN = 5
_SINGLES = 30
_POLL_S = 0.02
# Long enough to see `running` before the end.
_SINGLE_RUNS = "sleep 2"
_SEED = 6


@measurement("node")
def node(options: Options) -> Iterator[Figure]:
    """Measure with one slot per core, then with four, where delays leave no core idle."""
    cores = len(os.sched_getaffinity(0))
    with running_node_stack(options.folder / "node", slots=cores) as stack:
        yield from _delays(stack, options)
    with running_node_stack(options.folder / "node-4", slots=4 * cores) as stack:
        ours, theirs = [], []
        for _ in range(options.repeat):
            ours.append(_drain(stack, options.node_jobs, options.limit_s).rate)
            theirs.append(bare_rate(max(1, options.node_jobs // _BARE_SHARE), stack.slots))
        yield _drained(stack.slots, ours, theirs, target=_SHARE * median(theirs))


def _delays(stack: NodeStack, options: Options) -> Iterator[Figure]:
    ours: list[float] = []
    theirs: list[float] = []
    freed: list[float] = []
    completed: list[float] = []
    singles = _Singles()
    for _ in range(options.repeat):
        drain = _drain(stack, max(10, options.node_jobs // _SHORT_DRAIN), options.limit_s)
        ours.append(drain.rate)
        freed.append(median(drain.gaps_s))
        completed.append(percentile(drain.completed_s, 0.95))
        theirs.append(bare_rate(max(1, options.node_jobs // (2 * _SHORT_DRAIN)), stack.slots))
        singles.measure(stack, max(3, options.node_jobs // _SINGLES))
    yield _drained(stack.slots, ours, theirs, target=None)
    yield _seconds("end of a container to the start of the next in its slot, backlog", freed, 1.5)
    yield _seconds("submit to its container running, idle, median", singles.submit_s, 2.5)
    yield _seconds("container's start to `running` in the API, idle, p95", singles.running_s, 1)
    yield _seconds("container's end to `completed` in the API, idle, p95", singles.completed_s, 1)
    yield _seconds("container's end to completed, during a drain, p95", completed, 1)


def _drained(slots: int, ours: list[float], theirs: list[float], *, target: float | None) -> Figure:
    peer = Samples(theirs, f"docker run, {slots} at once")
    what = f"drain of `true` jobs, each with its bucket, {slots} at once"
    return Figure(what, "jobs/s", Better.HIGHER, Samples(ours), target, [peer])


def _seconds(what: str, values: list[float], target: float) -> Figure:
    return Figure(what, "s", Better.LOWER, Samples(values), target)


@dataclass(frozen=True)
class _Drain:
    rate: float
    # From the end of a container to the start of the next one in its slot.
    gaps_s: list[float]
    # From the end of a container to its receipt, which completes the job.
    completed_s: list[float]


def _drain(stack: NodeStack, count: int, limit_s: float) -> _Drain:
    # Warm-up: the first jobs load the image and register the parent job.
    stack.wait_until_completed(stack.submit(stack.make_buckets("true", 2)), limit_s)
    buckets = stack.make_buckets("true", count)
    with watched_containers() as lives:
        began = time.time()
        ids = stack.submit(buckets)
        last = stack.wait_until_completed(ids, limit_s)
    rows = stack.fetch("SELECT id, ended_at FROM jobs WHERE id = ANY($1::uuid[])", ids)
    completed: dict[str, datetime] = {str(row["id"]): row["ended_at"] for row in rows}
    return _Drain(
        count / (last - began),
        gaps(lives, ids, stack.slots),
        [completed[job_id].timestamp() - lives.ended[job_id] for job_id in ids],
    )


def gaps(lives: Lives, ids: list[str], slots: int) -> list[float]:
    """Return the seconds from each end of a container to the next start in its slot.

    The first ``slots`` starts fill all slots. So the first end frees the slot of the start after
    them.
    """
    starts = sorted(lives.started[job_id] for job_id in ids)
    ends = sorted(lives.ended[job_id] for job_id in ids)
    return [start - end for end, start in zip(ends, starts[slots:], strict=False)]


@dataclass
class _Singles:
    """Delays of single jobs on an idle node, in s: a median or 95th percentile per sample."""

    submit_s: list[float] = field(default_factory=list)
    running_s: list[float] = field(default_factory=list)
    completed_s: list[float] = field(default_factory=list)

    def measure(self, stack: NodeStack, count: int) -> None:
        """Submit ``count`` jobs one after the other, and add a sample to each list."""
        draw = random.Random(_SEED)  # noqa: S311  # no secret
        buckets = stack.make_buckets(_SINGLE_RUNS, count)
        submitted: dict[str, float] = {}
        seen: dict[str, dict[str, float]] = {}
        with (
            watched_containers() as lives,
            httpx.Client(base_url=service_url(stack.state), trust_env=False) as http,
        ):
            for bucket in buckets:
                # Submit at a random moment of the feeder's interval.
                time.sleep(draw.uniform(0.5, 1.0))
                now = time.time()
                (job_id,) = stack.submit([bucket])
                submitted[job_id] = now
                seen[job_id] = _follow(http, stack.state.user_secret, job_id)
        self.submit_s.append(median(lives.started[job] - submitted[job] for job in seen))
        for times, state, values in (
            (lives.started, "running", self.running_s),
            (lives.ended, "completed", self.completed_s),
        ):
            values.append(percentile([seen[job][state] - times[job] for job in seen], 0.95))


def _follow(http: httpx.Client, secret: str, job_id: str) -> dict[str, float]:
    """Poll a job's status until it is completed; return when each status was first seen."""
    seen: dict[str, float] = {}
    deadline = time.monotonic() + 60
    while "completed" not in seen:
        answer = http.post("/v22_1/task-status", json={"secret": secret, "jobid": job_id})
        seen.setdefault(answer.json()["status"], time.time())
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"A single job was not completed within 60 s. Its states were: {', '.join(seen)}."
            )
        time.sleep(_POLL_S)
    if "running" not in seen:
        raise UnexpectedAnswerError("A job was completed, and no poll saw it running.")
    return seen
