"""What a run comes to: rates, utilisation, lags, and what each part used for a job."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bench.figures import percentile
from bench.simulation.nodes import Record
from bench.simulation.watch import Seen

Attempt = tuple[str, int]


@dataclass(frozen=True)
class Lag:
    """How long one step took, in seconds."""

    median: float
    p95: float
    largest: float
    count: int

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Lag | None:
        """Of all that were seen; None if none was."""
        if not seconds:
            return None
        return cls(percentile(seconds, 0.5), percentile(seconds, 0.95), max(seconds), len(seconds))


@dataclass(frozen=True)
class Outcome:
    """What one run showed."""

    nodes: int
    cores: int
    jobs: int
    # From the first dispatch to the last receipt.
    seconds: float
    # Jobs that ended a second while there was a backlog, after the slots had been filled.
    jobs_a_second: float
    # Dispatches a second, from the first to the last.
    dispatched_a_second: float
    # Of all cores while there was a backlog, after they had been filled: held by a job, from its
    # arrival on the node to its receipt; and running its command.
    occupied: float
    computing: float
    lags: Mapping[str, Lag]
    # Milliseconds of CPU a job, by part, without what the part uses when nothing happens.
    cpu_ms: Mapping[str, float]
    # Cores used, by part, on average; and when nothing happened before.
    cpu_cores: Mapping[str, float]
    idle_cores: Mapping[str, float]
    # Attempts that ended otherwise than they should, in the words of who refused.
    troubles: Sequence[str]


def rate(times: Iterable[float]) -> float:
    """Return how many a second, from the first to the last."""
    ordered = sorted(times)
    if len(ordered) < 2 or ordered[-1] == ordered[0]:
        return 0.0
    return (len(ordered) - 1) / (ordered[-1] - ordered[0])


def slot_lags(records: Iterable[Record], cores: Mapping[str, int], until: float) -> list[float]:
    """Return the seconds from cores becoming free to the next command on them.

    On each node the cores that became free first are taken first; a job of several cores waited for
    the last of its cores. Cores that were never used before do not count, nor does what arrived
    after ``until``, when the backlog had ended.
    """
    by_node: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        if record.running:
            by_node[record.node].append(record)
    lags = []
    for node, ran in by_node.items():
        free: deque[tuple[float | None, int]] = deque([(None, cores[node])])
        ends = deque(sorted((r.receipted or r.ended, r.cores) for r in ran))
        for record in sorted(ran, key=lambda r: r.arrived):
            while ends and ends[0][0] <= record.arrived:
                free.append(ends.popleft())
            since = _take(free, record.cores)
            if since is not None and record.arrived <= until:
                lags.append(record.running - since)
    return lags


def _take(free: deque[tuple[float | None, int]], cores: int) -> float | None:
    """Take the cores that are free for longest; return when the last of them became free."""
    newest = None
    while cores and free:
        since, count = free.popleft()
        used = min(count, cores)
        cores -= used
        newest = since
        if count > used:
            free.appendleft((since, count - used))
    return newest


def share_of(
    spans: Iterable[tuple[float, float, int]], *, cores: int, begin: float, end: float
) -> float:
    """Return which share of all cores the spans (from, to, cores) fill between two times."""
    if end <= begin:
        return 0.0
    filled = sum(max(0.0, min(to, end) - max(since, begin)) * n for since, to, n in spans)
    return filled / (cores * (end - begin))


def summarise(
    records: Sequence[Record],
    seen: Seen,
    cores_by_node: Mapping[str, int],
    cpu: Mapping[str, float],
    idle_cores: Mapping[str, float],
    wall_s: float,
) -> Outcome:
    """Put together what nodes, database and kernel noted of a run in which all jobs ended.

    Parameters
    ----------
    cpu, wall_s
        What each part used, and in which time.
    """
    by_attempt = {(record.job, record.attempt): record for record in records}
    done = [record for record in records if record.receipted]
    cores = sum(cores_by_node.values())
    last_claim = max(seen.claimed.values())
    # When every core could have had its first job: before it, the machines are being filled.
    filled = _filled_at(done, cores)
    ends = [record.receipted for record in done if filled <= record.receipted <= last_claim]
    begin = min(seen.dispatched.values())
    seconds = max(record.receipted for record in done) - begin
    arrived = {attempt: r.arrived for attempt, r in by_attempt.items()}
    granted = {attempt: r.granted for attempt, r in by_attempt.items() if r.granted}
    running = {attempt: r.running for attempt, r in by_attempt.items() if r.running}
    steps = {
        "claimed to dispatched": _steps(seen.claimed, seen.dispatched),
        "dispatched to on a node": _steps(seen.dispatched, arrived),
        "on a node to leave to start": _steps(arrived, granted),
        "leave to start to running": _steps(granted, running),
        "running to running in the database": _steps(running, seen.running),
        "end of the command to receipt": [r.receipted - r.ended for r in done if r.ended],
        "slot free to the next command": slot_lags(done, cores_by_node, last_claim),
    }
    return Outcome(
        nodes=len(cores_by_node),
        cores=cores,
        jobs=len(done),
        seconds=seconds,
        jobs_a_second=rate(ends),
        dispatched_a_second=rate(seen.dispatched.values()),
        occupied=share_of(
            ((r.arrived, r.receipted, r.cores) for r in done),
            cores=cores,
            begin=filled,
            end=last_claim,
        ),
        computing=share_of(
            ((r.running, r.ended, r.cores) for r in done if r.running),
            cores=cores,
            begin=filled,
            end=last_claim,
        ),
        lags={name: lag for name, values in steps.items() if (lag := Lag.of(values))},
        cpu_ms={
            part: 1000 * max(0.0, used - idle_cores[part] * wall_s) / len(done)
            for part, used in cpu.items()
        },
        cpu_cores={part: used / wall_s for part, used in cpu.items()},
        idle_cores=idle_cores,
        troubles=sorted({record.trouble for record in records if record.trouble}),
    )


def _filled_at(done: Sequence[Record], cores: int) -> float:
    so_far = 0
    ordered = sorted(done, key=lambda record: record.running or record.arrived)
    for record in ordered:
        so_far += record.cores
        if so_far >= 0.95 * cores:
            return record.running or record.arrived
    return ordered[-1].receipted


def _steps(before: Mapping[Attempt, float], after: Mapping[Attempt, float]) -> list[float]:
    return [at - before[attempt] for attempt, at in after.items() if attempt in before]
