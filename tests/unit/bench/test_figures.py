"""Figures made from samples, and the table made from figures."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bench.figures import Better, Figure, Samples, percentile
from bench.machine import Machine
from bench.report import Report, Result

_RATE = Figure(
    "intake",
    "jobs/s",
    Better.HIGHER,
    Samples([5000, 9000, 7000]),
    target=6000,
    peers=[Samples([350, 300, 400], "sbatch"), Samples([14000], "another")],
)
_TIME = Figure("cancel", "s", Better.LOWER, Samples([4, 2, 6]), 3, [Samples([32], "scancel")])
_AHEAD = Figure(
    "batch",
    "folders/s",
    Better.HIGHER,
    Samples([300, 310, 320]),
    target=300,
    peers=[Samples([100], "published"), Samples([20], "another")],
    least={"published": 3},
)
_MACHINE = Machine(
    name="bench host/1",
    processor="a processor",
    cores=2,
    memory_gib=24,
    kernel="6.1",
    system="Debian",
    disk="ext4",
    load_before=(1.0, 2.0, 3.0),
    versions={"SLURM": "22.05"},
)


def test_the_median_counts() -> None:
    assert _RATE.ours.median == 7000
    assert _RATE.is_met
    assert not _TIME.is_met


def test_a_ratio_above_one_is_better_in_both_directions() -> None:
    assert _RATE.ratio(_RATE.peers[0]) == 20
    assert _RATE.ratio(_RATE.peers[1]) == 0.5
    assert _TIME.ratio(_TIME.peers[0]) == 8


@pytest.mark.parametrize(
    ("better", "ours", "target", "theirs", "is_met"),
    [
        (Better.HIGHER, 310, 300, 100, True),
        (Better.HIGHER, 310, 300, 104, False),  # below three times
        (Better.HIGHER, 290, 300, 10, False),  # a good ratio does not hide a missed target
        (Better.HIGHER, 300, None, 100, True),
        (Better.HIGHER, 299, None, 100, False),
        (Better.LOWER, 2, 3, 6, True),
        (Better.LOWER, 2, 3, 5, False),
    ],
)
def test_a_least_ratio_counts_like_the_target(
    better: Better, ours: float, target: float | None, theirs: float, is_met: bool
) -> None:
    peers = [Samples([theirs], "peer"), Samples([ours], "without a least ratio")]
    figure = Figure("it", "", better, Samples([ours]), target, peers, least={"peer": 3})
    assert figure.is_met is is_met


def test_a_least_ratio_to_a_peer_that_was_not_measured_is_neither_met_nor_missed() -> None:
    def figure(ours: float) -> Figure:
        return Figure("it", "", Better.HIGHER, Samples([ours]), 300, least={"peer": 3})

    assert figure(310).is_met is None
    assert figure(290).is_met is False
    table = Report(datetime.now(UTC), _MACHINE, 3, [Result(figure(310), 0.5)]).table()
    cells = [cell.strip() for cell in table.splitlines()[2].strip("|").split("|")]
    assert cells[3:] == ["at least 300", "?", "peer", "not measured", "", "", "3x: ?"]


def test_without_target_and_ratio_nothing_is_met() -> None:
    assert (
        Figure("it", "", Better.HIGHER, Samples([1]), peers=[Samples([2], "peer")]).is_met is None
    )


@pytest.mark.parametrize(("share", "value"), [(0.5, 50), (0.95, 95), (0.951, 96), (1, 100), (0, 1)])
def test_percentile(share: float, value: float) -> None:
    assert percentile(range(100, 0, -1), share) == value


def test_percentile_of_few() -> None:
    assert percentile([3.0], 0.95) == 3.0
    assert percentile([1.0, 2.0, 3.0], 0.5) == 2.0


def test_the_table_has_a_line_per_peer() -> None:
    table = Report(datetime.now(UTC), _MACHINE, 3, [Result(_RATE, 0.5), Result(_TIME, 0.7)]).table()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    assert cells[2] == [
        *("intake", "7,000 jobs/s", "5,000 to 9,000", "at least 6,000", "yes"),
        *("sbatch", "350", "300 to 400", "20.0x", ""),
    ]
    assert cells[3] == ["", "", "", "", "", "another", "14,000", "14,000 to 14,000", "0.5x", ""]
    assert cells[4] == [
        *("cancel", "4 s", "2 to 6", "at most 3", "NO"),
        *("scancel", "32", "32 to 32", "8.0x", ""),
    ]
    assert len({len(line) for line in table.splitlines()}) == 1


def test_the_table_says_which_ratio_is_missed() -> None:
    missed = replace(_AHEAD, ours=Samples([300, 310, 290]), least={"published": 3.5, "another": 15})
    table = Report(datetime.now(UTC), _MACHINE, 3, [Result(_AHEAD, 0), Result(missed, 0)]).table()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    assert cells[0][-2:] == ["ratio", "at least"]
    assert (cells[2][4], cells[2][-2:]) == ("yes", ["3.1x", "3x: yes"])
    assert (cells[4][4], cells[4][-2:]) == ("NO", ["3.0x", "3.5x: NO"])
    assert cells[5][-2:] == ["15.0x", "15x: yes"]


def test_both_files_are_written(tmp_path: Path) -> None:
    began = datetime(2026, 11, 24, 16, 5, tzinfo=UTC)
    report = Report(began, _MACHINE, 3, [Result(_RATE, 0.5)], ["feeding: no Nomad"])
    path = report.write(tmp_path / "results")
    assert path.name == "2026-11-24-1605-bench-host-1.md"
    text = path.read_text()
    assert "load average before: 1.00 2.00 3.00" in text
    assert "- feeding: no Nomad" in text
    assert report.table() in text
    whole = json.loads(path.with_suffix(".json").read_text())
    assert whole["figures"][0]["ours"]["values"] == [5000, 9000, 7000]
    assert whole["figures"][0]["load"] == 0.5
    assert whole["figures"][0]["is_met"] is True
    assert whole["machine"]["cores"] == 2
