from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.simulation.cpu import cpu_seconds
from bench.simulation.nodes import Record
from bench.simulation.outcome import Lag, rate, share_of, slot_lags, summarise
from bench.simulation.watch import Seen
from bench.simulation.workload import MIXED, Workload, draw_jobs


def record(
    job: str, arrived: float, running: float, receipted: float, *, node: str = "n", cores: int = 1
) -> Record:
    return Record(job, 1, node, cores, arrived, arrived, running, receipted, receipted)


def test_a_slot_waits_from_the_receipt_to_the_next_command() -> None:
    records = [record("a", 0, 1, 10), record("b", 11, 12, 20), record("c", 21, 23, 30)]
    assert slot_lags(records, {"n": 1}, until=100) == [2, 3]
    # After the backlog had ended a slot waits for nothing of ours.
    assert slot_lags(records, {"n": 1}, until=15) == [2]


def test_cores_that_were_never_used_do_not_count() -> None:
    records = [record("a", 0, 1, 10), record("b", 11, 12, 20)]
    assert slot_lags(records, {"n": 2}, until=100) == []


def test_a_wide_job_waited_for_the_last_of_its_cores() -> None:
    records = [record("a", 0, 1, 10), record("b", 0, 1, 15), record("c", 16, 18, 30, cores=2)]
    assert slot_lags(records, {"n": 2}, until=100) == [3]


def test_nodes_are_looked_at_one_by_one() -> None:
    records = [record("a", 0, 1, 10), record("b", 11, 12, 20, node="m")]
    assert slot_lags(records, {"n": 1, "m": 1}, until=100) == []


def test_a_share_counts_what_is_between_two_times() -> None:
    assert share_of([(0, 10, 1), (5, 25, 2)], cores=4, begin=5, end=15) == pytest.approx(25 / 40)
    assert share_of([], cores=4, begin=5, end=5) == 0


def test_a_rate_is_from_the_first_to_the_last() -> None:
    assert rate([3.0, 1.0, 2.0]) == 1.0
    assert rate([1.0]) == 0.0


def test_a_run_is_summed_up() -> None:
    records = [
        record(f"{turn}{slot}", 10 * turn + 0.5, 10 * turn + 1, 10 * turn + 10)
        for turn in range(4)
        for slot in range(2)
    ]
    at = {(r.job, 1): r.arrived - 0.5 for r in records}
    seen = Seen(claimed=at, dispatched=at, placed=at, running={k: v + 2 for k, v in at.items()})
    outcome = summarise(records, seen, {"n": 2}, {"service": 5.0}, {"service": 0.025}, wall_s=40.0)
    assert (outcome.jobs, outcome.cores, outcome.seconds) == (8, 2, 40)
    # From the first command on both cores (at 1) to the last claim (at 30).
    assert outcome.occupied == pytest.approx((9 + 2 * 9.5) / 29)
    assert outcome.computing == pytest.approx(27 / 29)
    # The last two were claimed last, and came after it.
    assert outcome.lags["slot free to the next command"] == Lag(1, 1, 1, 4)
    assert outcome.lags["running to running in the database"].median == 1
    assert outcome.cpu_ms == {"service": pytest.approx(500)}


def test_the_same_seed_draws_the_same_jobs() -> None:
    workload = Workload(200, MIXED, 10.0, 0.5, failing=0.1)
    jobs = draw_jobs(workload, groups=2, users=3, seed=1)
    assert jobs == draw_jobs(workload, groups=2, users=3, seed=1)
    assert jobs != draw_jobs(workload, groups=2, users=3, seed=2)
    assert {job.group for job in jobs} == {0, 1}
    assert {job.cores for job in jobs} == {shape.cores for shape in MIXED}
    assert {job.exit_code for job in jobs} == {0, 1}
    assert len({job.bucket for job in jobs}) == 200
    assert max(len(job.bucket) for job in jobs) <= 63


def test_cpu_of_children_that_ended_counts(tmp_path: Path) -> None:
    burn = "import time\nwhile time.process_time() < 0.5: pass\n"
    parent = tmp_path / "parent.py"
    parent.write_text(
        f"import subprocess, sys, time\nsubprocess.run([sys.executable, '-c', {burn!r}])\n"
        "print('done', flush=True)\ntime.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, parent], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"done\n"
        assert cpu_seconds(process.pid) >= 0.5
        process.stdout.close()
    finally:
        process.kill()
        process.wait()
    assert cpu_seconds(process.pid) == 0
    assert cpu_seconds(os.getpid()) > 0
