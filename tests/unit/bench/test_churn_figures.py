"""Figures of a database after many changes of state."""

from __future__ import annotations

from bench.measurements.churn import Remains, figures_of


def remains(*, used: int, last: float) -> Remains:
    # 20 rounds; the last two are the last tenth.
    seconds = [0.5] * 18 + [last] * 2
    return Remains(seconds, 9000, "5s", dead_share=0.125, bytes_used=used, bytes_packed=6_000_000)


def test_size_is_in_mb_and_at_most_twice_the_packed_size() -> None:
    size, dead, pace = figures_of(remains(used=9_000_000, last=0.5))
    assert size.what == "jobs and attempts with indexes after 16,000 changes of state"
    assert (size.unit, size.ours.median, size.target, size.is_met) == ("MB", 9, 12, True)
    assert size.peers[0].median == 6
    assert size.ours.note == "9,000 jobs of 1,000 bytes; autovacuum_naptime 5s; 1,600 changes/s"
    assert dead.ours.median == 12.5
    assert (pace.ours.median, pace.is_met) == (1, True)


def test_a_larger_size_or_a_slower_pace_misses_the_target() -> None:
    size, _, pace = figures_of(remains(used=12_000_001, last=0.8))
    assert size.is_met is False
    assert (pace.ours.median, pace.is_met) == (0.625, False)
