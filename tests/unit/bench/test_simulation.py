from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.simulation.cpu import cpu_seconds
from bench.simulation.nodes import Record
from bench.simulation.outcome import (
    Lag,
    fairness,
    lags_in_slots,
    rate,
    share_of,
    slot_lags,
    summarise,
    whole_slots,
)
from bench.simulation.watch import Seen
from bench.simulation.workload import MIXED, Workload, draw_jobs


def record(
    job: str,
    arrived: float,
    running: float,
    receipted: float,
    *,
    node: str = "n",
    cores: int = 1,
    slot: str = "",
) -> Record:
    return Record(job, 1, node, cores, arrived, arrived, running, receipted, receipted, slot=slot)


def test_a_slot_waits_from_the_receipt_to_the_next_command() -> None:
    records = [record("a", 0, 1, 10), record("b", 11, 12, 20), record("c", 21, 23, 30)]
    assert slot_lags(records, {"n": 1}, until=100) == [2, 3]
    # After the end of the backlog a free slot is not our delay.
    assert slot_lags(records, {"n": 1}, until=15) == [2]


def test_cores_that_were_never_used_do_not_count() -> None:
    records = [record("a", 0, 1, 10), record("b", 11, 12, 20)]
    assert slot_lags(records, {"n": 2}, until=100) == []


def test_a_job_of_several_cores_counts_from_the_last_of_them() -> None:
    records = [record("a", 0, 1, 10), record("b", 0, 1, 15), record("c", 16, 18, 30, cores=2)]
    assert slot_lags(records, {"n": 2}, until=100) == [3]


def test_each_node_counts_by_itself() -> None:
    records = [record("a", 0, 1, 10), record("b", 11, 12, 20, node="m")]
    assert slot_lags(records, {"n": 1, "m": 1}, until=100) == []


def test_a_slot_is_free_after_its_last_receipt() -> None:
    records = [
        record("a", 0, 1, 10),
        record("b", 9, 11, 20, slot="ax1"),
        # The upload of the one before takes longer than this whole job.
        record("c", 19, 20, 21, slot="ax1"),
        record("d", 22, 24, 30),
    ]
    slots = whole_slots(records)
    assert [(slot.job, slot.arrived, slot.receipted) for slot in slots] == [
        ("a", 0, 21),
        ("d", 22, 30),
    ]
    assert slot_lags(slots, {"n": 1}, until=100) == [3]
    assert lags_in_slots(records, until=100) == [1, 0]
    assert lags_in_slots(records, until=15) == [1]


def test_a_share_counts_the_time_from_begin_to_end() -> None:
    assert share_of([(0, 10, 1), (5, 25, 2)], cores=4, begin=5, end=15) == pytest.approx(25 / 40)
    assert share_of([], cores=4, begin=5, end=5) == 0


def test_a_rate_is_from_the_first_to_the_last() -> None:
    assert rate([3.0, 1.0, 2.0]) == 1.0
    assert rate([1.0]) == 0.0


def test_summarise_combines_nodes_database_and_kernel() -> None:
    records = [
        record(f"{turn}{slot}", 10 * turn + 0.5, 10 * turn + 1, 10 * turn + 10)
        for turn in range(4)
        for slot in range(2)
    ]
    at = {(r.job, 1): r.arrived - 0.5 for r in records}
    users = {r.job: int(r.job[1]) for r in records}
    seen = Seen(at, at, at, {k: v + 2 for k, v in at.items()}, users)
    outcome = summarise(records, seen, {"n": 2}, {"service": 5.0}, {"service": 0.025}, wall_s=40.0)
    assert (outcome.jobs, outcome.cores, outcome.seconds) == (8, 2, 40)
    # From the first command on both cores (at 1) to the last claim (at 30).
    assert outcome.occupied == pytest.approx((9 + 2 * 9.5) / 29)
    assert outcome.computing == pytest.approx(27 / 29)
    # The last two jobs were claimed last and arrived after the end of the backlog.
    assert outcome.lags["slot free to the next command"] == Lag(1, 1, 1, 4)
    assert outcome.lags["running to running in the database"].median == 1
    # Each of the two users always had one of both cores.
    assert outcome.fairness == 1
    assert outcome.ends_s == {1: 25}
    assert outcome.cpu_ms == {"service": pytest.approx(500)}


def test_fairness_is_one_over_the_users_if_one_has_all() -> None:
    records = [record("a", 0, 1, 10), record("b", 10, 11, 20)]
    assert fairness(records, {"a": 1, "b": 2}, 0, 20) == 1
    # The second job arrives only after the end.
    assert fairness(records, {"a": 1, "b": 2}, 0, 5) == 0.5
    assert fairness([], {"a": 1}, 0, 5) == 1


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
