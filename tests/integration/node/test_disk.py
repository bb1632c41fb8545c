"""Disks: how much a job may use, and disks that others fill."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from node_rig import Job, Rig, wait_for


def limited(rig: Rig, command: str, diskmb: int = 200, **more: Any) -> Job:
    job = rig.job(command, **more)
    job.grant["diskmb"] = diskmb
    return job


@pytest.mark.parametrize(
    "where", [".", "/tmp", "/local", "$(for i in $(seq 600); do mkdir d; cd d; done; pwd)"]
)
def test_a_job_that_uses_more_disk_than_its_limit(rig: Rig, where: str) -> None:
    """M1: in its folder, in its container's layer, in the place of a Nomad folder, or deep."""
    job = limited(rig, f"cd {where}; head -c 300M /dev/zero >file; sleep 60")
    assert rig.stage_in(job) == 0
    # As the task driver makes them.
    local = rig.node_dir / "jobs" / job.name / "nomad" / "main" / "local"
    local.mkdir(parents=True)
    rig.run_container(job, more_volumes=[f"{local}:/local"]).wait(timeout=45)
    assert rig.stage_out(job) == 0
    receipt = rig.receipt(job)
    assert receipt["outcome"] == "out_of_disk"
    # A deep file is not uploaded; the message says that afterwards.
    assert receipt["message"].startswith("used more than 200 MB of disk")


def test_disk_that_a_sparse_file_and_links_do_not_use(rig: Rig) -> None:
    """M1: blocks count: a hole uses none, and a file with two names counts once."""
    job = limited(
        rig,
        "truncate -s 10G sparse; truncate -s 10G /tmp/sparse; head -c 120M /dev/zero >a; ln a b; "
        "sleep 9; rm -f sparse a b",
    )
    assert rig.run(job)["outcome"] == "ended"


def test_an_input_larger_than_the_disk_limit(rig: Rig) -> None:
    """M1: some KB of archive are 300 MB on the node."""
    job = limited(rig, "true", files={"zeros": bytes(300 << 20)})
    assert rig.stage_in(job) != 0
    assert rig.stage_out(job) == 0
    receipt = rig.receipt(job)
    assert receipt["outcome"] == "out_of_disk"
    assert receipt["message"] == "its input alone needs more than 200 MB of disk"


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[None]:
    options = f"size={megabytes}m"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "x", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_disk_that_others_filled_is_not_the_jobs_failure(rig: Rig) -> None:
    """M1: its command fails with ENOSPC, and it used far less than its limit."""
    rig.kill()
    rig.node_dir.mkdir(exist_ok=True)
    with small_disk(rig.node_dir, 400):
        rig.start()
        job = limited(rig, "while [ ! -e go ]; do sleep 0.2; done; echo x >more || exit 1")
        other = rig.job("sleep 30")
        assert rig.stage_in(job) == 0
        container = rig.run_container(job)
        assert rig.stage_in(other) == 0
        with pytest.raises(OSError, match="No space"):
            (rig.node_dir / "jobs" / other.name / "fill").write_bytes(bytes(500 << 20))
        (rig.node_dir / "jobs" / job.name / "rundir" / "go").touch()
        assert container.wait(timeout=20)["StatusCode"] != 0
        assert rig.stage_out(job) == 0
        receipt = rig.receipt(job)
        assert receipt["outcome"] == "node_trouble"
        assert receipt["message"] == "the node's disk was full; the job ended with exit code 1"
        rig.stop()


def test_a_node_whose_disk_is_low_says_so(rig: Rig) -> None:
    """M1: it takes no new jobs, and its running jobs go on."""
    rig.service.report_seconds = 0.2
    rig.settings["LERULI_NODE_DISK_FREE_MB"] = str(10**9)
    job = rig.job("sleep 3")
    assert rig.stage_in(job) == 0
    container = rig.run_container(job)
    rig.kill()
    rig.start()

    def told() -> str | None:
        reports = [body for name, body in rig.service.calls if name == "node-report"]
        return reports[-1].get("trouble") if reports else None

    wait_for(told, what="a report of the disk")
    assert "it takes new jobs from 1250000000 MB on" in str(told())
    container.wait(timeout=30)
    assert rig.stage_out(job) == 0
    assert rig.receipt(job)["outcome"] == "ended"
