"""What is submitted follows from the seed, and a command leaves what the plan says it does."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from soak.plan import Job, Kind, make_plan

JOB_ID = "01a20e9c-0000-7000-8000-000000000001"


def test_the_same_seed_gives_the_same_posts() -> None:
    size = {"jobs": 3000, "drain": 50, "users": 4}
    assert make_plan(7, **size) == make_plan(7, **size)
    assert make_plan(7, **size) != make_plan(8, **size)


def test_every_job_is_posted_once_and_those_to_drain_come_first() -> None:
    posts = make_plan(7, jobs=3000, drain=50, users=4)
    jobs = [job for post in posts for job in post.jobs]
    assert sorted(job.number for job in jobs) == list(range(3000))
    assert len({job.bucket for job in jobs}) == 3000
    assert all(job.is_drained for job in jobs[:250])
    assert {job.kind for job in jobs[250:]} == {Kind.CROWD}
    assert Counter(job.kind for job in jobs).keys() == set(Kind)
    assert all(len({job.user for job in post.jobs}) == 1 for post in posts)


@pytest.mark.parametrize("kind", [Kind.ENDS_WELL, Kind.WRITES_MUCH, Kind.FAILS])
def test_a_command_leaves_what_is_expected_of_it(kind: Kind, tmp_path: Path) -> None:
    posts = make_plan(7, jobs=300, drain=50, users=4)
    found = next(job for post in posts for job in post.jobs if job.kind is kind)
    job: Job = replace(found, sleep_s=0.0)
    with tarfile.open(fileobj=io.BytesIO(job.input())) as archive:
        archive.extractall(tmp_path, filter="data")
    with (tmp_path / "joblog.txt").open("wb") as log, (tmp_path / "joberr.txt").open("wb") as err:
        done = subprocess.run(
            ["bash", "run.sh"],
            cwd=tmp_path,
            env={**os.environ, "NOMAD_META_job": JOB_ID, "NOMAD_META_attempt": "2"},
            stdout=log,
            stderr=err,
            check=False,
        )
    assert done.returncode == job.exit_code
    (tmp_path / "run.sh").unlink()
    left = {
        str(path.relative_to(tmp_path)): path.read_bytes()
        for path in tmp_path.rglob("*")
        if path.is_file()
    }
    stamp = left["end"].decode().strip()
    assert stamp.startswith(f"{JOB_ID} 2 ")
    assert left == job.output(stamp, 2)
