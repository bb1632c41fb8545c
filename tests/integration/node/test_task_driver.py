"""The task driver in the real Nomad: a job is no process of it, so any part may be killed."""

from __future__ import annotations

import os
import signal
import time

from node_nomad import (
    Server,
    dispatch,
    kill_driver,
    kill_nomad,
    nomad_of,
    ready,
    register,
    stop,
    task_of,
)
from node_rig import Job, Rig, wait_for
from slow_docker import SlowDocker


def begin(server: Server, rig: Rig, command: str) -> tuple[Job, str]:
    """Dispatch a job to the rig's node; return it and its id in Nomad."""
    ready(server, rig)
    register(server, rig)
    job = rig.job(command)
    return job, dispatch(server, job)


def begin_to_run(server: Server, rig: Rig, command: str) -> tuple[Job, str]:
    """Like begin, and wait until the container runs and Nomad knows it."""
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


def test_a_job_in_stage_in_outlives_driver_and_nomad(server: Server, nomad_rig: Rig) -> None:
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


def test_a_job_in_stage_out_outlives_driver_and_nomad(server: Server, nomad_rig: Rig) -> None:
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
    """Without its socket Docker is away for the node; the container goes on."""
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


def test_a_job_that_is_stopped_while_it_is_recovered_ends(server: Server, nomad_rig: Rig) -> None:
    """Docker answers the recovery only after Nomad has told the driver to stop the task."""
    rig = nomad_rig
    rig.stop()
    with SlowDocker(rig.folder / "docker.sock") as slow:
        rig.settings["LERULI_NODE_DOCKER_SOCKET"] = str(slow.path)
        rig.start()
        job, child = begin_to_run(server, rig, "sleep 100")
        slow.hold()
        kill_nomad(rig)
        # The driver's other questions wait for its first. Nomad recovers tasks before it stops any.
        wait_for(lambda: slow.waiting >= 1, 40, "the driver to ask Docker")
        stop(server, child)
        time.sleep(5)
        assert task_of(server, rig).get("State") == "running"
        slow.release()
        receipt = wait_for(lambda: rig.service.receipts.get(job.key), 30, "a receipt")
        assert receipt["outcome"] == "stopped"
        wait_for(lambda: task_of(server, rig).get("State") == "dead", 20, "the end in Nomad")
        assert rig.is_clean(job)
        rig.stop()


def test_a_container_that_is_gone_is_not_started_again(server: Server, nomad_rig: Rig) -> None:
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


def test_a_job_that_is_cancelled_during_stage_in_ends_there(server: Server, nomad_rig: Rig) -> None:
    """Nomad waits for the container, so the agent learns it from the answer to its report."""
    rig = nomad_rig
    rig.stop()
    rig.service.report_seconds = 0.5
    # Nobody listens there: stage-in waits for the store.
    rig.settings["LERULI_S3_SERVER"] = "http://127.0.0.1:9"
    rig.start()
    job, child = begin(server, rig, "true")
    wait_for((rig.node_dir / "attempts" / f"{job.id}.json").exists, 30, "the attempt")
    wait_for(lambda: rig.state(job)["phase"] == "granted", 20, "a start grant")
    stop(server, child)
    time.sleep(2)
    assert rig.state(job)["phase"] == "granted"
    rig.service.cancelled.add(job.key)
    assert wait_for(lambda: rig.service.receipts.get(job.key), 20)["outcome"] == "stopped"
    wait_for(lambda: task_of(server, rig).get("State") == "dead", 20, "the end in Nomad")
    assert rig.is_clean(job)
