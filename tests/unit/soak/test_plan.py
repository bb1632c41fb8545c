"""The seed gives the same plan again, and a command writes the output that the plan expects."""

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


def test_short_jobs_share_containers_half_of_the_time() -> None:
    posts = make_plan(7, jobs=3000, drain=1000, users=4, short=True)
    jobs = [job for post in posts for job in post.jobs if job.is_drained]
    assert len(jobs) == 1500
    assert 0.45 < sum(job.shares for job in jobs) / len(jobs) < 0.55
    assert sorted(job.sleep_s for job in jobs)[len(jobs) // 2] < 0.1
    assert {job.kind for job in jobs} == {Kind.ENDS_WELL, Kind.FAILS, Kind.LONG}


@pytest.mark.parametrize("shares", [False, True])
@pytest.mark.parametrize("kind", [Kind.ENDS_WELL, Kind.WRITES_MUCH, Kind.FAILS])
def test_a_command_writes_the_expected_output(kind: Kind, shares: bool, tmp_path: Path) -> None:
    used = [tmp_path / "tmp", tmp_path / "shm"]
    for folder in used:
        folder.mkdir()
    rundir = tmp_path / "rundir"
    rundir.mkdir()
    posts = make_plan(7, jobs=300, drain=50, users=4)
    found = next(job for post in posts for job in post.jobs if job.kind is kind)
    job: Job = replace(found, sleep_s=0.0, shares=shares)
    with tarfile.open(fileobj=io.BytesIO(job.input())) as archive:
        archive.extractall(rundir, filter="data")
    look_in = {"LOOK_IN": " ".join(map(str, used)), "LEAVE_S": "0"}
    with (rundir / "joblog.txt").open("wb") as log, (rundir / "joberr.txt").open("wb") as err:
        done = subprocess.run(
            ["bash", "run.sh"],
            cwd=rundir,
            env={**os.environ, **look_in, "LERULI_JOBID": JOB_ID},
            stdout=log,
            stderr=err,
            check=False,
        )
    assert done.returncode == job.exit_code
    (rundir / "run.sh").unlink()
    left = {
        str(path.relative_to(rundir)): path.read_bytes()
        for path in rundir.rglob("*")
        if path.is_file()
    }
    stamp = left["end"].decode().strip()
    assert stamp.startswith(f"{JOB_ID} ")
    assert left == job.output(stamp)
    # A job in a shared container leaves what the next one must not find.
    assert [bool(list(folder.iterdir())) for folder in used] == [shares, shares]
