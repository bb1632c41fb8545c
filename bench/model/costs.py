"""CPU cost of a job and of a node for each part, from runs of the simulation."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SERVICE, DISPATCHER, POSTGRES, NOMAD = "service", "dispatcher", "PostgreSQL", "Nomad server"
PARTS = (SERVICE, DISPATCHER, POSTGRES, NOMAD)
# Nomad asks its clients for at most 50 heartbeats a second, and each client for one per 10 s at
# most. Above this number of nodes only the interval of heartbeats grows, not their rate.
_NODES_AT_FULL_HEARTBEATS = 500


@dataclass(frozen=True)
class Line:
    """A straight line: ``base`` plus ``each`` times a count."""

    base: float
    each: float

    def at(self, count: float) -> float:
        """Return the value for a count."""
        return self.base + self.each * count

    @classmethod
    def through(cls, points: Sequence[tuple[float, float]]) -> Line:
        """Return the least-squares line with a slope and a base of at least 0."""
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
    """Measured costs, for any number of nodes."""

    # CPU time per job in ms, by part. The count of Nomad's line is the nodes of the job's group.
    job_ms: Mapping[str, Line]
    # Cores used by an idle cluster, by part. The count is the number of nodes.
    idle_cores: Mapping[str, Line]
    # If no part is saturated: from a free slot to the next command on it, and from the arrival on a
    # node to the command.
    turnaround_s: float
    start_s: float

    def service_s(self, part: str, nodes_a_group: float) -> float:
        """Return the CPU time that a part needs for one job, in s."""
        return self.job_ms[part].at(nodes_a_group) / 1000

    def background(self, part: str, nodes: float) -> float:
        """Return the cores that a part needs for ``nodes`` idle nodes."""
        if part == NOMAD:
            nodes = min(nodes, _NODES_AT_FULL_HEARTBEATS)
        return self.idle_cores[part].at(nodes)


def read_costs(paths: Sequence[Path]) -> Costs:
    """Read files of ``python -m bench.simulate --json``, from runs of different sizes.

    Runs with absent machines are left out: they measure the length of Nomad's lists.

    Raises
    ------
    ValueError
        If there is no run, or if a file is not from bench.simulate.
    """
    runs = [run for path in paths if not (run := _read(path))["parameters"]["absent"]]
    if not runs:
        raise ValueError("The model needs at least one run of bench.simulate (--json).")
    job_ms, idle = {}, {}
    for part in PARTS:
        # Only Nomad's cost per job depends on the nodes: for every unplaced job Nomad examines each
        # node of a full pool.
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
    # These keys are in stored files, so "leave to start" (now: start grant) stays.
    return Costs(
        job_ms,
        idle,
        turnaround_s=min(_medians(runs, "slot free to the next command")),
        start_s=min(_medians(runs, "on a node to leave to start"))
        + min(_medians(runs, "leave to start to running")),
    )


def _medians(runs: Sequence[Mapping[str, Any]], step: str) -> list[float]:
    """Return the median time of a step in each run that has this step, in s."""
    found = [
        run["outcome"]["lags"][step]["median"] for run in runs if step in run["outcome"]["lags"]
    ]
    if not found:
        raise ValueError(f"No run has the step: {step}. A run needs more jobs than slots.")
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        _ = found["outcome"]["idle_cores"], found["parameters"]["absent"]
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{path} is not from bench.simulate: {type(error).__name__}") from error
    return found


def _nodes(run: Mapping[str, Any]) -> float:
    return float(run["parameters"]["nodes"])
