"""How samples become a figure, and figures a table."""

from __future__ import annotations

import json
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


def test_a_ratio_above_one_is_better_whichever_way() -> None:
    assert _RATE.ratio(_RATE.peers[0]) == 20
    assert _RATE.ratio(_RATE.peers[1]) == 0.5
    assert _TIME.ratio(_TIME.peers[0]) == 8


@pytest.mark.parametrize(("share", "value"), [(0.5, 50), (0.95, 95), (0.951, 96), (1, 100), (0, 1)])
def test_percentile(share: float, value: float) -> None:
    assert percentile(range(100, 0, -1), share) == value


def test_percentile_of_few() -> None:
    assert percentile([3.0], 0.95) == 3.0
    assert percentile([1.0, 2.0, 3.0], 0.5) == 2.0


def test_the_table_has_a_line_a_peer() -> None:
    table = Report(datetime.now(UTC), _MACHINE, 3, [Result(_RATE, 0.5), Result(_TIME, 0.7)]).table()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    assert cells[2] == [
        *("intake", "7,000 jobs/s", "5,000 to 9,000", "at least 6,000", "yes"),
        *("sbatch", "350", "300 to 400", "20.0x"),
    ]
    assert cells[3] == ["", "", "", "", "", "another", "14,000", "14,000 to 14,000", "0.5x"]
    assert cells[4] == [
        *("cancel", "4 s", "2 to 6", "at most 3", "NO"),
        *("scancel", "32", "32 to 32", "8.0x"),
    ]
    assert len({len(line) for line in table.splitlines()}) == 1


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
    assert whole["machine"]["cores"] == 2
