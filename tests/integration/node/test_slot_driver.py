"""A slot in the real Nomad: its task driver and its Nomad are killed around a further attempt."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
from node_nomad import (
    Server,
    dispatch,
    driver_of,
    kill_driver,
    kill_nomad,
    nomad_of,
    ready,
    register,
    stop,
    task_of,
)
from node_rig import Job, Rig, wait_for

KINDS = pytest.mark.parametrize("shares", [False, True], ids=["fresh", "shared"])


def begin(server: Server, rig: Rig, *jobs: Job) -> str:
    """Dispatch a first attempt, whose slot runs these jobs next; return its id in Nomad."""
    ready(server, rig)
    register(server, rig)
    rig.service.backlog += [job.key for job in jobs]
    return dispatch(server, rig.job("echo first", goes_on=True))


def is_begun(rig: Rig, job: Job) -> bool:
    """Return whether the job's command runs, in a fresh or a shared container."""
    own = rig.node_dir / "jobs" / job.name / "rundir" / "begun"
    return own.exists() or any((rig.node_dir / "jobs/.shared").glob("*/rundir/begun"))


def of_job(rig: Rig, job: Job) -> list[dict[str, Any]]:
    return [body for key, body in rig.service.receipts.items() if key[0] == job.job]


def ended_well(server: Server, rig: Rig, *jobs: Job) -> None:
    """Each job has one receipt, of a command that ran once; Nomad started nothing again.

    A driver that is started again does not find the container of the slot's first attempt, so Nomad
    may call the task failed.
    """
    wait_for(lambda: task_of(server, rig).get("State") == "dead", 90, "the end in Nomad")
    assert task_of(server, rig)["Restarts"] == 0
    for job in jobs:
        [receipt] = wait_for(lambda job=job: of_job(rig, job), 30, "a receipt")
        assert (receipt["outcome"], receipt["exitcode"]) == ("ended", 0)
        assert rig.store.get(job.bucket, "counted") == b"once\n"
    wait_for(lambda: not rig.containers(), 20, "no container is left")


@KINDS
def test_a_further_command_outlives_driver_and_nomad(
    server: Server, nomad_rig: Rig, shares: bool
) -> None:
    rig = nomad_rig
    command = "touch begun; echo once >>counted; sleep {}"
    long = rig.job(command.format(20), share_container=shares)
    last = rig.job(command.format(0), share_container=shares)
    begin(server, rig, long, last)
    wait_for(lambda: is_begun(rig, long), 60, "the command runs")
    kill_driver(rig)
    kill_nomad(rig)
    assert not of_job(rig, long)
    ended_well(server, rig, long, last)


def test_a_further_upload_outlives_driver_and_nomad(server: Server, nomad_rig: Rig) -> None:
    """The slot waits for the service: with the receipt, and with its question."""
    rig = nomad_rig
    job, last = (rig.job("touch begun; echo once >>counted; sleep 3") for _ in range(2))
    begin(server, rig, job)
    wait_for(lambda: is_begun(rig, job), 60, "the command runs")
    rig.service.down = True
    receipts = rig.node_dir / "receipts"
    wait_for(lambda: list(receipts.glob(f"{job.id}*")), 30, "a receipt on the disk")
    kill_driver(rig)
    kill_nomad(rig)
    rig.service.backlog.append(last.key)
    rig.service.down = False
    ended_well(server, rig, job, last)


@KINDS
@pytest.mark.parametrize("part", ["driver", "Nomad"])
def test_nomad_ends_a_slot_whose_driver_was_killed(
    server: Server, nomad_rig: Rig, shares: bool, part: str
) -> None:
    """The next driver tells the agent: what runs ends as stopped, and nothing further begins."""
    rig = nomad_rig
    running, waiting = (rig.job("touch begun; sleep 100", share_container=shares) for _ in range(2))
    child = begin(server, rig, running, waiting)
    wait_for(lambda: is_begun(rig, running), 60, "the command runs")
    nomad = nomad_of(rig)
    os.kill(driver_of(nomad) if part == "driver" else nomad, signal.SIGKILL)
    stop(server, child)
    wait_for(lambda: of_job(rig, running), 60, "a receipt")
    assert [receipt["outcome"] for receipt in of_job(rig, running)] == ["stopped"]
    wait_for(lambda: task_of(server, rig).get("State") == "dead", 30, "the end in Nomad")
    assert not of_job(rig, waiting)
    wait_for(lambda: not rig.containers(), 20, "no container is left")
