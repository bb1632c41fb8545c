"""What a measurement hands back: samples, their median, how they stand to a target and a peer."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
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
    # By a peer's name: how many times better than it we have to be.
    least: Mapping[str, float] = field(default_factory=dict)

    @property
    def is_met(self) -> bool | None:
        """Whether our median reaches the target and each least ratio.

        None where nothing is asked, and where all that was measured is reached but a peer that
        counts was not.
        """
        asked = [self.is_ahead(who) for who in self.least]
        if self.target is not None:
            higher = self.better is Better.HIGHER
            median = self.ours.median
            asked.append(median >= self.target if higher else median <= self.target)
        if False in asked:
            return False
        return None if None in asked or not asked else True

    def is_ahead(self, who: str) -> bool | None:
        """Whether we are as far ahead of a peer as we have to be; None if it was not measured."""
        for peer in self.peers:
            if peer.who == who:
                return self.ratio(peer) >= self.least[who]
        return None

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
