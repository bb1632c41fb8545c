"""The driver of the stage tasks in the real Nomad: no process a task, any part may be killed."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

from node_nomad import Server, dispatch, ready, register
from node_rig import STAGE, Rig, wait_for


def children(pid: int) -> dict[int, str]:
    """The process ids of a process's children that live, and what they run."""
    text = "".join(path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children"))
    found = {}
    for child in text.split():
        with suppress(FileNotFoundError):
            found[int(child)] = str(Path(f"/proc/{child}/exe").readlink())
    return found


def nomad_of(rig: Rig) -> int:
    """The process id of the agent's Nomad."""
    assert rig.process
    return next(pid for pid, program in children(rig.process.pid).items() if "nomad" in program)


def task_of(server: Server, rig: Rig, name: str) -> Any:
    [allocation] = server.call("GET", f"node/{rig.service.nodeid}/allocations")
    return (allocation.get("TaskStates") or {}).get(name)


def waits_in_stage_in(server: Server, rig: Rig) -> tuple[Any, str]:
    """A job whose stage-in waits for the service, which is down, and its id in Nomad."""
    ready(server, rig)
    register(server, rig)
    job = rig.job("echo hi >o")
    rig.service.down = True
    child = dispatch(server, job)
    wait_for((rig.node_dir / "attempts" / f"{job.id}.json").exists, 30, "a request for leave")
    wait_for(lambda: (task_of(server, rig, "stage-in") or {}).get("State") == "running", 10)
    return job, child


def test_stage_tasks_are_no_processes_and_go_on_when_driver_or_nomad_is_killed(
    server: Server, nomad_rig: Rig
) -> None:
    rig = nomad_rig
    job, _ = waits_in_stage_in(server, rig)
    nomad = nomad_of(rig)
    [(driver, program)] = children(nomad).items()
    assert program == os.path.realpath(str(STAGE))
    assert children(driver) == {}
    os.kill(driver, signal.SIGKILL)
    [another] = wait_for(lambda: {*children(nomad)} - {driver}, 30, "another driver")
    os.kill(nomad, signal.SIGKILL)
    wait_for(lambda: not Path(f"/proc/{another}").exists(), 5, "the end of Nomad's driver")
    wait_for(lambda: rig.log.count("Nomad started") == 2, 20, "another Nomad")
    rig.service.down = False
    receipt = wait_for(lambda: rig.service.receipts.get(job.key), 60, "a receipt")
    assert (receipt["outcome"], receipt["exitcode"]) == ("ended", 0)
    done = wait_for(lambda: task_of(server, rig, "stage-out"), 20, "the end in Nomad")
    assert (done["Failed"], done["Restarts"]) == (False, 0)
    begun = task_of(server, rig, "stage-in")
    assert (begun["Failed"], begun["Restarts"]) == (False, 0)


def test_a_job_that_is_stopped_in_stage_in_ends_there(server: Server, nomad_rig: Rig) -> None:
    rig = nomad_rig
    job, child = waits_in_stage_in(server, rig)
    server.call("DELETE", f"job/{child.replace('/', '%2F')}")
    wait_for(lambda: task_of(server, rig, "stage-in")["State"] == "dead", 10, "its end")
    ended = task_of(server, rig, "stage-in")["Events"]
    [told] = [event["Details"] for event in ended if event["Type"] == "Terminated"]
    assert (told["exit_code"], told["exit_message"]) == ("143", "the stage task was stopped")
    rig.service.down = False
    wait_for(lambda: rig.is_clean(job), 40, "nothing of it to be left")
