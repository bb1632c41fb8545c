"""What jobs used, and what to ask for next time."""

from __future__ import annotations

import csv
import io

import pytest

from leruli.jobs.efficiency import percentile, report
from leruli.terminal.use_report import as_csv, sentences


def job(memory=300, wall=100.0, cpu=100.0, *, state="completed", outcome="ended", **more):
    used = {"peaknocachemb": memory, "peakmemorymb": 900, "wallseconds": wall, "cpuseconds": cpu}
    asked = {"cores": 4, "memorymb": 4000, "timelimit": 3600, "diskmb": None, "attempts": 1}
    return {"jobid": "j", "name": "water", "state": state, "outcome": outcome, **asked, **more} | {
        "used": {**used, "diskmb": 20}
    }


def of(jobs, name):
    [found] = [one for one in report(jobs).resources if one.name == name]
    return found


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [
        ([], 95, None),
        ([7], 95, 7),
        ([2, 1], 50, 1),
        (list(range(1, 101)), 95, 95),
        (list(range(20)), 95, 18),
    ],
)
def test_percentiles_are_values_that_were_measured(values, percent, expected):
    assert percentile(values, percent) == expected


def test_what_to_ask_for_is_the_95th_percentile_and_a_margin():
    jobs = [job(memory=number, wall=number * 10.0) for number in range(1, 101)]
    memory, time = of(jobs, "memory"), of(jobs, "time")
    assert (memory.asked, memory.median, memory.p95, memory.most) == (4000, 50, 95, 100)
    # 95 MB and a fifth, in tens; 950 s and a fifth, in minutes.
    assert (memory.ask_for, time.ask_for) == (120, 19 * 60)
    assert memory.because == "p95 of 100 jobs, and 20% more"
    large = [job(memory=2000)]
    assert of(large, "memory").ask_for == 2400


def test_cores_are_cpu_time_by_wall_time():
    jobs = [job(wall=100.0, cpu=110.0), job(wall=100.0, cpu=90.0)]
    cores = of(jobs, "cores")
    assert (cores.asked, cores.p95, cores.ask_for) == (4, 1.1, 1)
    assert report(jobs).cpu_efficiency == pytest.approx(0.25)
    assert of([job(wall=100.0, cpu=380.0)], "cores").ask_for == 4


def test_jobs_at_their_limit_need_more_than_anybody_knows():
    killed = [job(memory=3990, state="failed", outcome="out_of_memory") for _ in range(2)]
    few = of([job() for _ in range(98)] + killed, "memory")
    assert (few.at_limit, few.p95, few.ask_for) == (2, 300, 360)
    many = of([job() for _ in range(8)] + killed, "memory")
    assert (many.at_limit, many.p95, many.ask_for) == (2, 4000, 8000)
    assert "twice" in many.because


def test_jobs_that_failed_by_themselves_do_not_count_beside_others():
    failed = job(memory=10, state="failed")
    found = report([job(), failed])
    assert (found.ended, found.measured, found.counted) == (2, 2, 1)
    assert of([job(), failed], "memory").median == 300
    assert of([failed], "memory").median == 10


def test_jobs_without_measurements_are_said():
    none = job()
    none["used"] = dict.fromkeys(none["used"])
    found = report([none])
    assert (found.ended, found.measured) == (1, 0)
    assert {one.ask_for for one in found.resources} == {None}
    assert list(sentences(found, 3)) == [
        "Not measured: 1 job that never ran, or ran on a machine that measures less.",
        "Not ended: 3 jobs.",
    ]
    # An older agent knows the peak with page cache.
    older = job()
    older["used"]["peaknocachemb"] = None
    assert of([older], "memory").median == 900


def test_csv_has_a_line_for_each_job():
    rows = list(csv.DictReader(io.StringIO(as_csv([job(name='a "b",\nc'), job()]))))
    assert [row["name"] for row in rows] == ['a "b", c', "water"]
    assert (rows[0]["memorymb"], rows[0]["peaknocachemb"], rows[0]["diskmb"]) == ("4000", "300", "")
    assert rows[0]["useddiskmb"] == "20"
