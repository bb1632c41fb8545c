"""Short jobs write their own id and times, and the bench believes no other job's."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from bench.load import UnexpectedAnswerError
from bench.short_jobs import (
    OWN,
    Run,
    bare_rate,
    gaps_in_slots,
    middle,
    read_own,
    true_job,
    xtb_job,
)
from leruli_queue.errors import SetupError

JOB_ID = "00000000-0000-4000-8000-000000000001"


def test_a_job_writes_its_id_its_bucket_and_its_times(tmp_path: Path) -> None:
    script = tmp_path / "run.sh"
    script.write_text(true_job("bucket-1")["run.sh"])
    subprocess.run(
        ["bash", script], cwd=tmp_path, env={**os.environ, "LERULI_JOBID": JOB_ID}, check=True
    )
    content = (tmp_path / OWN).read_bytes()
    run = read_own(JOB_ID, "bucket-1", content)
    assert 0 <= run.ended - run.began < 10
    for job_id, bucket in ((JOB_ID.replace("1", "2"), "bucket-1"), (JOB_ID, "bucket-2")):
        with pytest.raises(UnexpectedAnswerError, match="In the bucket of job"):
            read_own(job_id, bucket, content)


def test_a_job_whose_command_failed_has_no_end(tmp_path: Path) -> None:
    script = tmp_path / "run.sh"
    script.write_text(true_job("bucket-1")["run.sh"].replace("true ||", "false ||"))
    done = subprocess.run(["bash", script], cwd=tmp_path, check=False)
    assert done.returncode == 1
    with pytest.raises(UnexpectedAnswerError):
        read_own(JOB_ID, "bucket-1", (tmp_path / OWN).read_bytes())


def test_molecules_differ_between_jobs_and_not_between_runs() -> None:
    files = [xtb_job(f"bucket-{number}")["molecule.xyz"] for number in range(20)]
    assert len(set(files)) == 20
    assert files == [xtb_job(f"bucket-{number}")["molecule.xyz"] for number in range(20)]
    for text in files:
        count, _, *atoms = text.splitlines()
        assert len(atoms) == int(count)


def test_gaps_are_between_neighbours_of_one_slot() -> None:
    runs = {"a": Run(1, 2), "b": Run(1, 5), "c": Run(2.5, 3), "d": Run(6, 7), "e": Run(3.25, 4)}
    slots = {"a": "a", "b": "b", "c": "a", "d": "b", "e": "a"}
    assert gaps_in_slots(runs, slots) == [0.5, 0.25, 1]
    assert middle([3, 1, 2], "gap") == 2
    with pytest.raises(UnexpectedAnswerError, match="no slot ran a second job"):
        middle([], "gap")


def test_bare_jobs_run_in_their_own_folders(tmp_path: Path) -> None:
    assert bare_rate(tmp_path, [true_job(str(number)) for number in range(4)], 2) > 0
    owns = [(tmp_path / str(number) / OWN).read_text().split() for number in range(4)]
    assert [words[0] for words in owns] == ["0", "1", "2", "3"]
    with pytest.raises(SetupError, match="The bare jobs failed"):
        bare_rate(tmp_path / "failing", [{"run.sh": "exit 3"}], 2)
