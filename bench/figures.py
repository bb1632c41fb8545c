"""Figures of a measurement: samples, median, and comparison with a target and with peers."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class Better(StrEnum):
    """Direction in which a figure gets better."""

    HIGHER = "at least"
    LOWER = "at most"


@dataclass(frozen=True)
class Samples:
    """Samples of one figure. ``who`` is the peer's name, or empty for ours."""

    values: Sequence[float]
    who: str = ""
    # Conditions of the measurement, for the reader.
    note: str = ""

    @property
    def median(self) -> float:
        """The value that is compared."""
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
    # Least ratio to each peer, by its name.
    least: Mapping[str, float] = field(default_factory=dict)

    @property
    def is_met(self) -> bool | None:
        """Whether our median reaches the target and each least ratio.

        None if there is neither a target nor a least ratio. None also if everything measured is
        reached, but a peer with a least ratio was not measured.
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
        """Whether our ratio to a peer is at least the required one; None if not measured."""
        for peer in self.peers:
            if peer.who == who:
                return self.ratio(peer) >= self.least[who]
        return None

    def ratio(self, peer: Samples) -> float:
        """How many times better than a peer we are; below 1 we are worse."""
        ours, theirs = self.ours.median, peer.median
        if self.better is Better.LOWER:
            ours, theirs = theirs, ours
        return ours / theirs if theirs else float("inf")


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least a share (0 to 1) of the values do not exceed."""
    ordered = sorted(values)
    position = max(0, -int(-share * len(ordered) // 1) - 1)
    return ordered[position]
