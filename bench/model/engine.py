"""Discrete-event model of a job's way through the queue.

A job passes dispatcher, Nomad, (a slot,) service and PostgreSQL, its command, service and
PostgreSQL (the receipt), Nomad.
Each part is a station with one server per core. A station serves each job twice, each time for half
of the job's cost: before and after its command. The dispatcher serves it at the dispatch and at the
event of its placement.
The feeder's rule is the real one. It fills free slots; otherwise it keeps as many unplaced attempts
in Nomad as were placed in two seconds, from 4 to 200.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bench.figures import percentile
from bench.model.costs import DISPATCHER, NOMAD, PARTS, POSTGRES, SERVICE, Costs
from bench.model.stations import Station

_FEED_INTERVAL_S = 0.25
_RATE_OVER_S = 10.0
# Nomad's server applies plans one after the other, and signs an identity for the task in each.
# Share of its CPU time: a fifth with free slots (perf of the server at 50 nodes, 2026-11-30,
# docs/developers/nomad.md), a tenth with full slots. The larger one predicts lower rates.
_PLANS_SHARE = 1 / 5
_PLANS = "Nomad's plans"

# Kinds of events.
_FEED, _SEEN, _AT_NOMAD, _AT_PLANS, _PENDING, _AT_SERVICE, _AT_DATABASE, _ENDED, _FREE = range(9)


@dataclass(frozen=True)
class Size:
    """Size of the modelled cluster."""

    nodes: int
    slots_a_node: int
    groups: int = 1
    # Cores that each part can use: processes of `serve`, cores of PostgreSQL and of Nomad.
    cores: Mapping[str, int] | None = None
    window_min: int = 4
    window_max: int = 200

    def cores_of(self, part: str) -> int:
        """Return the cores of a part: by default 1 for the dispatcher (one process), else 2."""
        default = 1 if part == DISPATCHER else 2
        return (self.cores or {}).get(part, default)


@dataclass(frozen=True)
class Prediction:
    """Prediction of the model; times are in s."""

    jobs: int
    # From the first dispatch to the last receipt.
    seconds: float
    # With a backlog, after all slots were filled once.
    jobs_a_second: float
    # Share of all slots in use, with a backlog, after all slots were filled once.
    occupied: float
    lag_median: float
    lag_p95: float
    # Over the whole run, the share in use of the cores that the nodes leave to each part.
    load: Mapping[str, float]

    @property
    def busiest(self) -> str:
        """The part with the highest load."""
        return max(self.load, key=lambda part: self.load[part])


class SaturatedError(Exception):
    """A part has no capacity for jobs: its nodes alone take all of its cores."""


def limits(costs: Costs, size: Size) -> dict[str, float]:
    """Return the jobs per second at which each part is saturated."""
    found = {}
    for part in PARTS:
        cores = size.cores_of(part)
        left = max(0.0, cores - costs.background(part, size.nodes))
        found[part] = left / costs.service_s(part, size.nodes / size.groups)
    nomad_s = costs.service_s(NOMAD, size.nodes / size.groups)
    found[_PLANS] = 1 / (nomad_s * _PLANS_SHARE)
    return found


def predict(costs: Costs, size: Size, durations: Iterable[float]) -> Prediction:
    """Run jobs of one slot each through the model, all of them in the backlog at the start.

    Raises
    ------
    SaturatedError
        If the nodes alone take all cores of a part.
    """
    return _Model(costs, size, list(durations)).run()


@dataclass(slots=True, eq=False)
class _Job:
    """One job and the times of its steps, in s from the start."""

    duration: float
    # When the job before it left its slot; None if the slot was never used before.
    left_at: float | None = None
    placed_at: float = 0.0
    began_at: float = 0.0
    ended_at: float = 0.0
    is_over: bool = False


class _Model:
    def __init__(self, costs: Costs, size: Size, durations: list[float]) -> None:
        self._size = size
        self._backlog = deque(_Job(duration) for duration in durations)
        self._stations: dict[str, Station] = {}
        self._service: dict[str, float] = {}
        for part in PARTS:
            cores, used = size.cores_of(part), costs.background(part, size.nodes)
            if used >= cores:
                raise SaturatedError(
                    f"{size.nodes} nodes alone take {used:.1f} cores of {part}, which has {cores}"
                )
            self._stations[part] = Station(cores)
            # The cost of the nodes slows all servers of the part equally.
            own = costs.service_s(part, size.nodes / size.groups)
            self._service[part] = own / 2 / (1 - used / cores)
        self._stations[_PLANS] = Station(1)
        # The cost of plans is also part of the cost of NOMAD, whose cores do this work.
        self._service[_PLANS] = self._service[NOMAD] * 2 * _PLANS_SHARE
        self._start_s = costs.start_s
        # Delay between receipt and next command that is no CPU time of any part; half before the
        # slot is free, half after the placement.
        self._pause_s = max(0.0, costs.turnaround_s - costs.start_s) / 2
        self._slots = self._free = size.nodes * size.slots_a_node
        # Unplaced jobs in Nomad.
        self._pending: deque[_Job] = deque()
        # Times of receipts, one for each slot that became free.
        self._left: deque[float] = deque()
        # The feeder's view: attempts in flight, unplaced attempts, times of recent placements.
        self._in_flight = 0
        self._unplaced = 0
        self._placed: deque[float] = deque()
        self._events: list[tuple[float, int, int, _Job | None]] = []
        self._order = itertools.count()
        self._last_claim = 0.0
        self._filled_at: float | None = None
        self._ended: list[_Job] = []

    def run(self) -> Prediction:
        """Process all events."""
        self._at(0.0, _FEED)
        while self._events:
            now, _, kind, job = heapq.heappop(self._events)
            if kind == _FEED:
                self._feed(now)
            elif kind == _SEEN:
                self._unplaced -= 1
                self._placed.append(now)
            elif kind == _FREE:
                self._free += 1
                self._place(now)
            elif job is not None:
                self._step(now, kind, job)
        return self._summary()

    def _at(self, time: float, kind: int, job: _Job | None = None) -> None:
        heapq.heappush(self._events, (time, next(self._order), kind, job))

    def _through(self, part: str, now: float) -> float:
        return self._stations[part].take(now, self._service[part])

    def _step(self, now: float, kind: int, job: _Job) -> None:
        if kind == _AT_NOMAD:
            self._at(self._through(NOMAD, now), _AT_PLANS, job)
        elif kind == _AT_PLANS:
            self._at(self._through(_PLANS, now), _PENDING, job)
        elif kind == _PENDING:
            self._pending.append(job)
            self._place(now)
        elif kind in (_AT_SERVICE, _ENDED):
            job.is_over = kind == _ENDED
            self._at(self._through(SERVICE, now), _AT_DATABASE, job)
        else:
            self._note(self._through(POSTGRES, now), job)

    def _feed(self, now: float) -> None:
        while self._placed and self._placed[0] < now - _RATE_OVER_S:
            self._placed.popleft()
        size = self._size
        window = max(size.window_min, round(2 * len(self._placed) / _RATE_OVER_S))
        free = min(self._slots - self._in_flight, size.window_max - self._unplaced)
        count = max(min(window, size.window_max) - self._unplaced, free)
        count = min(count, len(self._backlog))
        if count > 0:
            self._in_flight += count
            self._unplaced += count
            self._last_claim = now
            done = now
            for _ in range(count):
                done = self._through(DISPATCHER, now)
                self._at(done, _AT_NOMAD, self._backlog.popleft())
            self._at(done, _FEED)
        elif self._backlog:
            self._at(now + _FEED_INTERVAL_S, _FEED)

    def _place(self, now: float) -> None:
        while self._free and self._pending:
            self._free -= 1
            job = self._pending.popleft()
            job.placed_at = now
            job.left_at = self._left.popleft() if self._left else None
            if self._free == 0 and self._filled_at is None:
                self._filled_at = now
            self._at(self._through(DISPATCHER, now), _SEEN)
            self._at(now + self._pause_s, _AT_SERVICE, job)

    def _note(self, now: float, job: _Job) -> None:
        """Go on after the commit of a start grant, or of a receipt."""
        if not job.is_over:
            job.began_at = now + self._start_s
            self._at(job.began_at + job.duration, _ENDED, job)
            return
        job.ended_at = now
        self._ended.append(job)
        self._in_flight -= 1
        self._left.append(now)
        # Nomad learns of the end and does the rest of its work for the job.
        self._at(self._through(NOMAD, now) + self._pause_s, _FREE)

    def _summary(self) -> Prediction:
        jobs, since = self._ended, self._filled_at or 0.0
        whole, span = max(job.ended_at for job in jobs), self._last_claim - since
        held = sum(
            max(0.0, min(job.ended_at, self._last_claim) - max(job.placed_at, since))
            for job in jobs
        )
        ends = [job.ended_at for job in jobs if since <= job.ended_at <= self._last_claim]
        lags = [job.began_at - job.left_at for job in jobs if job.left_at is not None]
        return Prediction(
            jobs=len(jobs),
            seconds=whole,
            jobs_a_second=(len(ends) - 1) / (max(ends) - min(ends)) if len(ends) > 1 else 0.0,
            occupied=held / (self._slots * span) if span > 0 else 0.0,
            lag_median=percentile(lags, 0.5) if lags else 0.0,
            lag_p95=percentile(lags, 0.95) if lags else 0.0,
            load={
                part: station.busy_s / whole / station.servers
                for part, station in self._stations.items()
            },
        )
