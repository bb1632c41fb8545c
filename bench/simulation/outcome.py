"""Results of a run: rates, utilisation, lags, and CPU time per job of each part."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import mean

from bench.figures import percentile
from bench.simulation.nodes import Record
from bench.simulation.watch import Seen

Attempt = tuple[str, int]


@dataclass(frozen=True)
class Lag:
    """Duration of one step over all jobs, in s."""

    median: float
    p95: float
    largest: float
    count: int

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Lag | None:
        """Return the lag of these durations; None if there are none."""
        if not seconds:
            return None
        return cls(percentile(seconds, 0.5), percentile(seconds, 0.95), max(seconds), len(seconds))


@dataclass(frozen=True)
class Outcome:
    """Results of one run."""

    nodes: int
    cores: int
    jobs: int
    # From the first dispatch to the last receipt.
    seconds: float
    # Ends of jobs per second, with a backlog, after all cores were used once.
    jobs_a_second: float
    # Dispatches per second, from the first to the last.
    dispatched_a_second: float
    # Share of all cores that a slot holds, from its arrival on the node to its last receipt.
    # Counted with a backlog, after all cores were used once.
    occupied: float
    # Share of all cores whose job's command runs, in the same time.
    computing: float
    # Attempts that Nomad did not place: they ran in the slot of another one.
    further: int
    # Jain's index of the users' jobs in flight while half of all jobs wait; 1: all have as many.
    fairness: float
    # Mean seconds from the first dispatch to the receipt, by the cores of the job.
    ends_s: Mapping[int, float]
    lags: Mapping[str, Lag]
    # CPU time per job in ms, by part, without the part's idle use.
    cpu_ms: Mapping[str, float]
    # Cores used on average, by part.
    cpu_cores: Mapping[str, float]
    # Cores used before the first submit, by part.
    idle_cores: Mapping[str, float]
    # Errors of attempts, in the words of the service.
    troubles: Sequence[str]


def rate(times: Iterable[float]) -> float:
    """Return the events per second between the first and the last of these times (s)."""
    ordered = sorted(times)
    if len(ordered) < 2 or ordered[-1] == ordered[0]:
        return 0.0
    return (len(ordered) - 1) / (ordered[-1] - ordered[0])


def whole_slots(records: Iterable[Record]) -> list[Record]:
    """Return one record for each slot: from the start of its first attempt to its last receipt.

    An attempt whose slot got no further ones is a slot of its own.
    """
    slots: dict[str, Record] = {}
    for record in sorted(records, key=lambda r: r.arrived):
        first = slots.setdefault(record.slot_key, record)
        slots[record.slot_key] = replace(
            first,
            ended=max(first.ended, record.ended),
            receipted=max(first.receipted, record.receipted),
        )
    return list(slots.values())


def lags_in_slots(records: Iterable[Record], until: float) -> list[float]:
    """Return the seconds from the end of each command in a slot to the start of its next one.

    Left out are starts after ``until``, the end of the backlog.
    """
    slots: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        if record.running:
            slots[record.slot_key].append(record)
    ordered = (sorted(ran, key=lambda r: r.running) for ran in slots.values())
    return [
        following.running - before.ended
        for ran in ordered
        for before, following in pairwise(ran)
        if following.running <= until
    ]


def slot_lags(records: Iterable[Record], cores: Mapping[str, int], until: float) -> list[float]:
    """Return the seconds from cores becoming free to the next command on them.

    On each node the cores that became free first are used first. A job of several cores counts from
    the last of them. Left out are cores that were never used before, and jobs that arrived after
    ``until``, the end of the backlog.
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
    """Take the cores that are free the longest; return when the last of them became free."""
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
    """Return the share of all cores that the spans (from, to, cores) use from begin to end."""
    if end <= begin:
        return 0.0
    filled = sum(max(0.0, min(to, end) - max(since, begin)) * n for since, to, n in spans)
    return filled / (cores * (end - begin))


def fairness(
    records: Iterable[Record], users: Mapping[str, int], begin: float, end: float
) -> float:
    """Return Jain's index of the seconds that each user's jobs were on nodes from begin to end.

    It is 1 if all users had as many jobs there, and 1/n if one of n users had all.
    """
    seconds = dict.fromkeys(users.values(), 0.0)
    for record in records:
        held = min(record.receipted, end) - max(record.arrived, begin)
        seconds[users[record.job]] += max(0.0, held)
    squares = sum(value**2 for value in seconds.values())
    return sum(seconds.values()) ** 2 / (len(seconds) * squares) if squares else 1.0


def _half(claimed: Iterable[float]) -> float:
    ordered = sorted(claimed)
    return ordered[len(ordered) // 2]


def summarise(
    records: Sequence[Record],
    seen: Seen,
    cores_by_node: Mapping[str, int],
    cpu: Mapping[str, float],
    idle_cores: Mapping[str, float],
    wall_s: float,
) -> Outcome:
    """Combine the records of nodes, database and kernel about a run in which all jobs ended.

    Parameters
    ----------
    cpu
        CPU time of each part during the run, in s.
    wall_s
        Duration of the run.
    """
    by_attempt = {(record.job, record.attempt): record for record in records}
    done = [record for record in records if record.receipted]
    slots = whole_slots(done)
    cores = sum(cores_by_node.values())
    last_claim = max(seen.claimed.values())
    # Before this moment the nodes are being filled; it is when every core can have had a job. On a
    # large cluster short jobs may never fill them.
    filled = min(_filled_at(slots, cores), _half(seen.claimed.values()))
    ends = [record.receipted for record in done if filled <= record.receipted <= last_claim]
    begin = min(seen.dispatched.values())
    seconds = max(record.receipted for record in done) - begin
    arrived = {attempt: r.arrived for attempt, r in by_attempt.items()}
    granted = {attempt: r.granted for attempt, r in by_attempt.items() if r.granted}
    running = {attempt: r.running for attempt, r in by_attempt.items() if r.running}
    # Stored files and bench.model use these names, so "leave to start" (now: start grant) stays.
    steps = {
        "claimed to dispatched": _steps(seen.claimed, seen.dispatched),
        "dispatched to on a node": _steps(seen.dispatched, arrived),
        "on a node to leave to start": _steps(arrived, granted),
        "leave to start to running": _steps(granted, running),
        "running to running in the database": _steps(running, seen.running),
        "end of the command to receipt": [r.receipted - r.ended for r in done if r.ended],
        "slot free to the next command": slot_lags(slots, cores_by_node, last_claim),
        "end of a command to the next in its slot": lags_in_slots(done, last_claim),
    }
    return Outcome(
        nodes=len(cores_by_node),
        cores=cores,
        jobs=len(done),
        seconds=seconds,
        jobs_a_second=rate(ends),
        dispatched_a_second=rate(seen.dispatched.values()),
        occupied=share_of(
            ((r.arrived, r.receipted, r.cores) for r in slots),
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
        fairness=fairness(done, seen.users, begin, _half(seen.claimed.values())),
        ends_s={
            size: mean(r.receipted - begin for r in done if r.cores == size)
            for size in sorted({r.cores for r in done})
        },
        further=sum(bool(record.slot) for record in done),
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
