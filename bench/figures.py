"""What a measurement hands back: samples, their median, how they stand to a target and a peer."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class Better(StrEnum):
    """Which way a figure should go."""

    HIGHER = "at least"
    LOWER = "at most"


@dataclass(frozen=True)
class Samples:
    """The same thing measured several times. ``who`` is a peer's name, or empty for ours."""

    values: Sequence[float]
    who: str = ""
    # What a reader has to know of how it came about.
    note: str = ""

    @property
    def median(self) -> float:
        """The figure that is compared."""
        return statistics.median(self.values)


@dataclass(frozen=True)
class Figure:
    """One line of the table."""

    what: str
    unit: str
    better: Better
    ours: Samples
    target: float | None = None
    peers: Sequence[Samples] = field(default=())

    @property
    def is_met(self) -> bool | None:
        """Whether our median reaches the target; None where there is none."""
        if self.target is None:
            return None
        if self.better is Better.HIGHER:
            return self.ours.median >= self.target
        return self.ours.median <= self.target

    def ratio(self, peer: Samples) -> float:
        """How many times better than a peer we are; below 1, how much worse."""
        ours, theirs = self.ours.median, peer.median
        if self.better is Better.LOWER:
            ours, theirs = theirs, ours
        return ours / theirs if theirs else float("inf")


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least a share (0 to 1) of the values do not exceed."""
    ordered = sorted(values)
    position = max(0, -int(-share * len(ordered) // 1) - 1)
    return ordered[position]
