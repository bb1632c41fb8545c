"""Comparison of the model with a simulation of the same size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bench.model.costs import SERVICE, Costs
from bench.model.engine import Size, predict
from bench.simulation.workload import MIXED, ONE_CORE, Workload, draw_jobs


@dataclass(frozen=True)
class Comparison:
    """One figure, simulated and modelled."""

    what: str
    simulated: float
    modelled: float

    @property
    def error(self) -> float:
        """Relative error of the model: 0.1 means 10 % above the simulation."""
        return (self.modelled - self.simulated) / self.simulated if self.simulated else 0.0


def compare(costs: Costs, run: Mapping[str, Any]) -> list[Comparison]:
    """Model the same jobs as a run of bench.simulate, in the same order.

    The model gives a job of several cores one slot, so a run of one-core jobs compares best.
    """
    asked, outcome = run["parameters"], run["outcome"]
    shapes = ONE_CORE if asked["shapes"] == "one-core" else MIXED
    workload = Workload(asked["jobs"], shapes, asked["median"], asked["spread"])
    jobs = draw_jobs(workload, groups=asked["groups"], users=asked["users"], seed=asked["seed"])
    mean_cores = sum(job.cores for job in jobs) / len(jobs)
    size = Size(
        asked["nodes"],
        max(1, round(asked["cores"] / mean_cores)),
        asked["groups"],
        {SERVICE: asked["workers"]},
    )
    # Older files have no container start.
    around = asked["stage_in"] + asked.get("container_start", 0.0) + asked["stage_out"]
    durations = [job.seconds + around for job in jobs]
    found = predict(costs, size, durations)
    lag = outcome["lags"].get("slot free to the next command", {"median": 0.0})
    return [
        Comparison("seconds in all", outcome["seconds"], found.seconds),
        Comparison("jobs a second", outcome["jobs_a_second"], found.jobs_a_second),
        Comparison("slots held", outcome["occupied"], found.occupied),
        Comparison("slot free to the next command, s", lag["median"], found.lag_median),
    ]
