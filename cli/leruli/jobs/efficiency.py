"""What jobs used beside what they asked for, and what to ask for next time.

A percentile is a value that was measured (nearest rank): of 20 jobs 19 used at most the 95th.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from leruli.wording import counted

PERCENTILE = 95
#: What to add to the percentile.
MARGIN = 0.2
# Where so many jobs reached their limit, nobody knows how much they need.
_TWICE = 2.0
# Cores that a program uses beside those that it was told to.
_SPARE_CORES = 0.25
# The least memory and disk that the service takes, in MB.
_LEAST_MB = 16

#: The phases of a job, in order, with the names of their fields.
PHASES = {
    "queue": "queueseconds",
    "place": "placeseconds",
    "image": "imageseconds",
    "input": "inputseconds",
    "run": "wallseconds",
    "output": "outputseconds",
}


@dataclass(frozen=True)
class Resource:
    """What jobs used of one resource: memory and disk in MB, time in seconds, cores."""

    name: str  #: cores, memory, time or disk
    asked: float | None  #: the median; None: the default of the service
    jobs: int  #: how many were measured
    at_limit: int  #: how many of these reached their limit, so that nobody knows what they need
    median: float | None  #: None without a measured job
    p95: float | None
    most: float | None
    ask_for: float | None  #: for the next jobs of this kind; None without a measured job
    because: str  #: what it stands on


@dataclass(frozen=True)
class Report:
    """What jobs that have ended used."""

    ended: int
    measured: int  #: how many of them a machine measured
    counted: int  #: how many of these count: completed ones and those that reached a limit
    resources: list[Resource]
    #: CPU time, as a part of the cores that were asked for times the time that they ran.
    cpu_efficiency: float | None
    phases: dict[str, float | None]  #: the median of each, in seconds

    def document(self) -> dict[str, Any]:
        """Return it as --json prints it."""
        return {
            "ended": self.ended,
            "measured": self.measured,
            "counted": self.counted,
            "cpuefficiency": self.cpu_efficiency,
            "resources": {
                one.name: {
                    name.replace("_", ""): value
                    for name, value in asdict(one).items()
                    if name != "name"
                }
                for one in self.resources
            },
            "phases": self.phases,
        }


def report(jobs: Sequence[Mapping[str, Any]]) -> Report:
    """Return the report on jobs as task-report answers them."""
    measured = [job for job in jobs if job["used"].get("wallseconds") is not None]
    # A job that failed by itself mostly ended early, and says nothing about one that does not.
    counting = [job for job in measured if _counts(job)] or measured
    return Report(
        ended=len(jobs),
        measured=len(measured),
        counted=len(counting),
        resources=[
            _cores(counting),
            _amount(counting, "memory", "memorymb", _memory, "out_of_memory", _whole_mb),
            _amount(counting, "time", "timelimit", _wall, "time_limit", _whole_minutes),
            _amount(counting, "disk", "diskmb", _disk, "out_of_disk", _whole_mb),
        ],
        cpu_efficiency=_cpu_efficiency(measured),
        phases={
            phase: percentile(_known(job["used"].get(field) for job in measured), 50)
            for phase, field in PHASES.items()
        },
    )


def percentile(values: Sequence[float], percent: int) -> float | None:
    """Return the nearest-rank percentile; None without values."""
    if not values:
        return None
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


def cores_used(job: Mapping[str, Any]) -> float | None:
    """Return CPU time by wall time; None if one of them is not known."""
    cpu, wall = job["used"].get("cpuseconds"), job["used"].get("wallseconds")
    return cpu / wall if cpu is not None and wall else None


def memory_used(job: Mapping[str, Any]) -> float | None:
    """Return the peak of memory in MB, without page cache if that was measured."""
    return _memory(job)


def _counts(job: Mapping[str, Any]) -> bool:
    limits = ("out_of_memory", "time_limit", "out_of_disk")
    return job.get("state") == "completed" or job.get("outcome") in limits


def _memory(job: Mapping[str, Any]) -> float | None:
    without_cache: float | None = job["used"].get("peaknocachemb")
    return job["used"].get("peakmemorymb") if without_cache is None else without_cache


def _wall(job: Mapping[str, Any]) -> float | None:
    wall: float | None = job["used"].get("wallseconds")
    return wall


def _disk(job: Mapping[str, Any]) -> float | None:
    disk: float | None = job["used"].get("diskmb")
    return disk


def _cores(jobs: Sequence[Mapping[str, Any]]) -> Resource:
    values = _known(cores_used(job) for job in jobs)
    p95 = percentile(values, PERCENTILE)
    ask_for = None if p95 is None else float(max(1, math.ceil(p95 - _SPARE_CORES)))
    return Resource(
        name="cores",
        asked=percentile([job["cores"] for job in jobs], 50),
        jobs=len(values),
        at_limit=0,
        median=percentile(values, 50),
        p95=p95,
        most=max(values, default=None),
        ask_for=ask_for,
        because=f"p{PERCENTILE} of {counted(len(values), 'job')}, whole cores",
    )


def _amount(
    jobs: Sequence[Mapping[str, Any]],
    name: str,
    asked: str,
    used: Any,
    outcome: str,
    rounded: Any,
) -> Resource:
    """Return a resource of which a job gets no more than it asked for."""
    at_limit = [job for job in jobs if job.get("outcome") == outcome]
    # At least what it asked for: the last of it was in the moment before the end.
    reached = [max(used(job) or 0, job.get(asked) or 0) for job in at_limit]
    within = _known(used(job) for job in jobs if job.get("outcome") != outcome)
    values = [*within, *reached]
    p95 = percentile(values, PERCENTILE)
    is_cut = p95 is not None and bool(reached) and p95 >= min(reached)
    factor, why = (1 + MARGIN, f"{MARGIN:.0%} more")
    if is_cut:
        factor, why = _TWICE, "twice that, as it is a limit that was reached"
    limits = _known(job.get(asked) for job in jobs)
    return Resource(
        name=name,
        asked=percentile(limits, 50),
        jobs=len(values),
        at_limit=len(at_limit),
        median=percentile(values, 50),
        p95=p95,
        most=max(values, default=None),
        ask_for=None if p95 is None else rounded(p95 * factor),
        because=f"p{PERCENTILE} of {counted(len(values), 'job')}, and {why}",
    )


def _known(values: Any) -> list[float]:
    return [value for value in values if value is not None]


def _whole_mb(value: float) -> float:
    """Return MB that people would write: tens, from 1,000 on hundreds."""
    step = 10 if value < 1000 else 100
    return float(max(_LEAST_MB, math.ceil(value / step) * step))


def _whole_minutes(value: float) -> float:
    return float(max(1, math.ceil(value / 60)) * 60)


def _cpu_efficiency(jobs: Sequence[Mapping[str, Any]]) -> float | None:
    known = [job for job in jobs if cores_used(job) is not None]
    asked = sum(job["cores"] * job["used"]["wallseconds"] for job in known)
    return sum(job["used"]["cpuseconds"] for job in known) / asked if asked else None
