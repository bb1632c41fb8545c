"""Which measurements there are, and what each of them is given."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.figures import Figure


@dataclass(frozen=True)
class Options:
    """What the person who runs it may choose."""

    # How often each thing is measured; the median counts.
    repeat: int
    # Jobs in one sample of ours and of a peer's; a measurement may need a multiple, and says so.
    jobs: int
    # Jobs in the group for what has to stay the same however many there are.
    crowd: int
    # Folders in one sample of the client's batch.
    folders: int
    # Jobs of one drain of a node.
    node_jobs: int
    # Calls of each kind in one sample of the lists.
    calls: int
    # Seconds over which memory is looked at.
    settle_s: int
    # Processes of `serve`.
    workers: int
    # Everything that is written is below it; peers write there as well, so to the same disk.
    folder: Path
    # Seconds that one measurement may take.
    limit_s: int
    # SLURM is there, and is to be measured too.
    peers: bool
    # The client that is on PyPI is to be measured too.
    published: bool


Measure = Callable[[Options], Iterator[Figure]]

MEASUREMENTS: dict[str, Measure] = {}
"""By the name that --only takes, in the order in which they run."""


def measurement(name: str) -> Callable[[Measure], Measure]:
    """Register a generator of figures."""

    def register(measure: Measure) -> Measure:
        MEASUREMENTS[name] = measure
        return measure

    return register
