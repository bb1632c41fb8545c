"""The measurements by name, and their options."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.figures import Figure


@dataclass(frozen=True)
class Options:
    """Options of a run, as given on the command line."""

    # Samples of each figure; the median counts.
    repeat: int
    # Jobs in one sample, ours or a peer's. A measurement that needs a multiple says so.
    jobs: int
    # Jobs in the group, for figures that must not depend on their number.
    crowd: int
    # Folders in one sample of the client's batch.
    folders: int
    # Jobs of one drain of a node.
    node_jobs: int
    # Calls of each kind in one sample of the lists.
    calls: int
    # Seconds over which memory is sampled.
    settle_s: int
    # Processes of `serve`.
    workers: int
    # Parent of everything that is written. Peers write there too, so to the same disk.
    folder: Path
    # Timeout of one measurement.
    limit_s: int
    # Whether to measure SLURM, which is installed.
    peers: bool
    # Whether to measure the client from PyPI.
    published: bool


Measure = Callable[[Options], Iterator[Figure]]

MEASUREMENTS: dict[str, Measure] = {}
"""Measurements by the name that --only takes, in the order in which they run."""


def measurement(name: str) -> Callable[[Measure], Measure]:
    """Register a generator of figures under a name."""

    def register(measure: Measure) -> Measure:
        MEASUREMENTS[name] = measure
        return measure

    return register
