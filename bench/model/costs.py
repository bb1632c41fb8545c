"""What a job and a node cost each part, from runs of the simulation."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SERVICE, DISPATCHER, POSTGRES, NOMAD = "service", "dispatcher", "PostgreSQL", "Nomad server"
PARTS = (SERVICE, DISPATCHER, POSTGRES, NOMAD)
# Nomad asks its clients for 50 heartbeats a second at most, each at least every 10 s: above so many
# nodes only the time between two heartbeats grows.
_NODES_AT_FULL_HEARTBEATS = 500


@dataclass(frozen=True)
class Line:
    """A straight line: so much, and so much more for each."""

    base: float
    each: float

    def at(self, count: float) -> float:
        """Return the value for a count."""
        return self.base + self.each * count

    @classmethod
    def through(cls, points: Sequence[tuple[float, float]]) -> Line:
        """Return the line of least squares that does not fall and begins at 0 or above."""
        counts, values = [x for x, _ in points], [y for _, y in points]
        if len(set(counts)) < 2:
            return cls(statistics.mean(values), 0.0)
        slope, base = statistics.linear_regression(counts, values)
        if slope < 0:
            return cls(statistics.mean(values), 0.0)
        if base < 0:
            return cls(0.0, sum(x * y for x, y in points) / sum(x * x for x in counts))
        return cls(base, slope)


@dataclass(frozen=True)
class Costs:
    """What was measured, for any number of nodes."""

    # Milliseconds of CPU a job, by part; for Nomad by how many nodes the job's group has.
    job_ms: Mapping[str, Line]
    # Cores used when nothing happens, by part, by how many nodes there are.
    idle_cores: Mapping[str, Line]
    # Seconds from a slot becoming free to the next command on it, where nothing is saturated, and
    # from a dispatch to the command.
    turnaround_s: float
    start_s: float

    def service_s(self, part: str, nodes_a_group: float) -> float:
        """Return the seconds of CPU that a part needs for one job."""
        return self.job_ms[part].at(nodes_a_group) / 1000

    def background(self, part: str, nodes: float) -> float:
        """Return the cores that a part needs for so many nodes alone."""
        if part == NOMAD:
            nodes = min(nodes, _NODES_AT_FULL_HEARTBEATS)
        return self.idle_cores[part].at(nodes)


def read_costs(paths: Sequence[Path]) -> Costs:
    """Read what ``python -m bench.simulate --json`` wrote, from runs of different sizes.

    Runs with absent machines answer another question, and are left out.

    Raises
    ------
    ValueError
        When there is none, or one of them is no such file.
    """
    runs = [run for path in paths if not (run := _read(path))["parameters"]["absent"]]
    if not runs:
        raise ValueError("The model needs at least one run of bench.simulate (--json).")
    job_ms, idle = {}, {}
    for part in PARTS:
        # Only Nomad's cost of a job depends on the nodes: on full ones it looks at each of the pool
        # for every job that waits.
        by_group = [
            (_nodes(run) / run["parameters"]["groups"], run["outcome"]["cpu_ms"][part])
            for run in runs
        ]
        if part == NOMAD:
            job_ms[part] = Line.through(by_group)
        else:
            job_ms[part] = Line(statistics.median(ms for _, ms in by_group), 0.0)
        idle[part] = Line.through(
            [(_nodes(run), run["outcome"]["idle_cores"][part]) for run in runs]
        )
    return Costs(
        job_ms,
        idle,
        turnaround_s=min(_medians(runs, "slot free to the next command")),
        start_s=min(_medians(runs, "on a node to leave to start"))
        + min(_medians(runs, "leave to start to running")),
    )


def _medians(runs: Sequence[Mapping[str, Any]], step: str) -> list[float]:
    """Return how long a step took in each run in which it was seen."""
    found = [
        run["outcome"]["lags"][step]["median"] for run in runs if step in run["outcome"]["lags"]
    ]
    if not found:
        raise ValueError(f"In none of the runs was seen: {step}. One needs more jobs than slots.")
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        _ = found["outcome"]["idle_cores"], found["parameters"]["absent"]
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{path} is not of bench.simulate: {type(error).__name__}") from error
    return found


def _nodes(run: Mapping[str, Any]) -> float:
    return float(run["parameters"]["nodes"])
