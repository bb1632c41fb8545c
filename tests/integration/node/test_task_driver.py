"""The task driver in the real Nomad: a job is no process of it, and any part may be killed."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from node_nomad import Server, dispatch, ready, register, stop
from node_rig import DRIVER, Job, Rig, wait_for
from slow_docker import SlowDocker


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


def driver_of(nomad: int) -> int:
    """The process id of a Nomad's task driver."""
    [(driver, program)] = children(nomad).items()
    assert program == os.path.realpath(str(DRIVER))
    assert children(driver) == {}
    return driver


def kill_driver(rig: Rig) -> None:
    """Kill the driver alone, and wait for another."""
    nomad = nomad_of(rig)
    driver = driver_of(nomad)
    os.kill(driver, signal.SIGKILL)
    [_] = wait_for(lambda: {*children(nomad)} - {driver}, 30, "another driver")


def kill_nomad(rig: Rig) -> None:
    """Kill Nomad, and wait until its driver is gone and the agent has started another Nomad."""
    nomad = nomad_of(rig)
    driver = driver_of(nomad)
    started = rig.log.count("Nomad started")
    os.kill(nomad, signal.SIGKILL)
    wait_for(lambda: not Path(f"/proc/{driver}").exists(), 5, "the end of Nomad's driver")
    wait_for(lambda: rig.log.count("Nomad started") > started, 20, "another Nomad")


def task_of(server: Server, rig: Rig) -> Any:
    [allocation] = server.call("GET", f"node/{rig.service.nodeid}/allocations")
    return (allocation.get("TaskStates") or {}).get("main") or {}


def begin(server: Server, rig: Rig, command: str) -> tuple[Job, str]:
    """Dispatch a job to the rig's node; return it and its id in Nomad."""
    ready(server, rig)
    register(server, rig)
    job = rig.job(command)
    return job, dispatch(server, job)


def begin_to_run(server: Server, rig: Rig, command: str) -> tuple[Job, str]:
    """As begin, and wait until its container runs and Nomad knows it."""
    begun = begin(server, rig, command)
    wait_for(rig.runs, 40, "a container")
    wait_for(lambda: task_of(server, rig).get("State") == "running", 10)
    return begun


def ended_well(server: Server, rig: Rig, job: Job) -> None:
    """Wait for the receipt of a command that ran once, and for the end in Nomad."""
    receipt = wait_for(lambda: rig.service.receipts.get(job.key), 60, "a receipt")
    assert (receipt["outcome"], receipt["exitcode"]) == ("ended", 0)
    wait_for(lambda: task_of(server, rig).get("State") == "dead", 20, "the end in Nomad")
    done = task_of(server, rig)
    assert (done["Failed"], done["Restarts"]) == (False, 0)
    assert rig.is_clean(job)


def test_a_job_that_is_brought_in_outlives_driver_and_nomad(server: Server, nomad_rig: Rig) -> None:
    rig = nomad_rig
    # The agent starts Nomad after its first report.
    ready(server, rig)
    rig.service.down = True
    job, _ = begin(server, rig, "echo hi >o")
    wait_for((rig.node_dir / "attempts" / f"{job.id}.json").exists, 30, "a request for leave")
    wait_for(lambda: task_of(server, rig).get("State") == "pending", 10)
    kill_driver(rig)
    kill_nomad(rig)
    rig.service.down = False
    ended_well(server, rig, job)


def test_a_running_job_outlives_driver_and_nomad(server: Server, nomad_rig: Rig) -> None:
    rig = nomad_rig
    job, _ = begin_to_run(server, rig, "sleep 12; echo survived")
    [container] = rig.containers()
    kill_driver(rig)
    kill_nomad(rig)
    assert [one.id for one in rig.containers()] == [container.id]
    ended_well(server, rig, job)
    assert rig.store.get(job.bucket, "joblog.txt") == b"survived\n"


def test_a_job_that_is_brought_out_outlives_driver_and_nomad(
    server: Server, nomad_rig: Rig
) -> None:
    rig = nomad_rig
    job, _ = begin(server, rig, "sleep 3; echo hi >o")
    wait_for(rig.runs, 40, "a container")
    rig.service.down = True
    wait_for(lambda: not rig.runs(), 20, "the end of the command")
    wait_for(lambda: rig.state(job)["phase"] == "decided", 20, "its end to be noted")
    assert task_of(server, rig).get("State") == "running"
    kill_driver(rig)
    kill_nomad(rig)
    rig.service.down = False
    ended_well(server, rig, job)


def test_a_running_job_outlives_a_nomad_that_is_started_while_docker_is_away(
    server: Server, nomad_rig: Rig
) -> None:
    """To the node Docker is away without its socket; the container runs on."""
    rig = nomad_rig
    rig.stop()
    socket = rig.folder / "docker.sock"
    socket.symlink_to("/var/run/docker.sock")
    rig.settings["LERULI_NODE_DOCKER_SOCKET"] = str(socket)
    rig.start()
    job, _ = begin_to_run(server, rig, "sleep 15; echo survived")
    socket.unlink()
    kill_nomad(rig)
    time.sleep(4)
    assert rig.runs()
    socket.symlink_to("/var/run/docker.sock")
    ended_well(server, rig, job)
    assert rig.store.get(job.bucket, "joblog.txt") == b"survived\n"


def test_a_job_that_is_stopped_while_it_is_taken_up_ends(server: Server, nomad_rig: Rig) -> None:
    """Docker answers the take-up only after Nomad has told the driver to stop the task."""
    rig = nomad_rig
    rig.stop()
    with SlowDocker(rig.folder / "docker.sock") as slow:
        rig.settings["LERULI_NODE_DOCKER_SOCKET"] = str(slow.path)
        rig.start()
        job, child = begin_to_run(server, rig, "sleep 100")
        slow.hold()
        kill_nomad(rig)
        # The first two questions are the health's and the take-up's.
        wait_for(lambda: slow.waiting >= 2, 20, "the driver to ask Docker")
        stop(server, child)
        time.sleep(5)
        assert task_of(server, rig).get("State") == "running"
        slow.release()
        receipt = wait_for(lambda: rig.service.receipts.get(job.key), 30, "a receipt")
        assert receipt["outcome"] == "stopped"
        wait_for(lambda: task_of(server, rig).get("State") == "dead", 20, "the end in Nomad")
        assert rig.is_clean(job)
        rig.stop()


def test_a_container_that_is_gone_is_not_started_anew(server: Server, nomad_rig: Rig) -> None:
    rig = nomad_rig
    job, _ = begin_to_run(server, rig, "sleep 100")
    [container] = rig.containers()
    os.kill(nomad_of(rig), signal.SIGKILL)
    container.remove(force=True)
    receipt = wait_for(lambda: rig.service.receipts.get(job.key), 60, "a receipt")
    assert (receipt["outcome"], receipt["message"]) == (
        "node_trouble",
        "the node did not start the container",
    )
    wait_for(lambda: task_of(server, rig).get("State") == "dead", 20, "the end in Nomad")
    assert task_of(server, rig)["Restarts"] == 0
    assert rig.is_clean(job)


def test_a_job_that_is_cancelled_while_it_is_brought_in_ends_there(
    server: Server, nomad_rig: Rig
) -> None:
    """Nomad waits for its container, so the agent is told with the answer to its report."""
    rig = nomad_rig
    rig.stop()
    rig.service.report_seconds = 0.5
    # Nobody listens there: bringing the job in waits for the store.
    rig.settings["LERULI_S3_SERVER"] = "http://127.0.0.1:9"
    rig.start()
    job, child = begin(server, rig, "true")
    wait_for((rig.node_dir / "attempts" / f"{job.id}.json").exists, 30, "the attempt")
    wait_for(lambda: rig.state(job)["phase"] == "granted", 20, "leave to start")
    stop(server, child)
    time.sleep(2)
    assert rig.state(job)["phase"] == "granted"
    rig.service.cancelled.add(job.key)
    assert wait_for(lambda: rig.service.receipts.get(job.key), 20)["outcome"] == "stopped"
    wait_for(lambda: task_of(server, rig).get("State") == "dead", 20, "the end in Nomad")
    assert rig.is_clean(job)
