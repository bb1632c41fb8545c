"""Slots whose attempts run in shared containers: real agent, runner, Docker and object store."""

from __future__ import annotations

import time
from typing import Any

import pytest
from node_rig import Job, Rig, wait_for
from node_slots import begin, shared_job


def ended(rig: Rig, job: Job) -> tuple[str, int | None]:
    """How a job ended, in the attempt that was not given back."""

    def receipts() -> list[dict[str, Any]]:
        return [body for key, body in list(rig.service.receipts.items()) if key[0] == job.job]

    [receipt] = wait_for(receipts, 30, "a receipt")
    return receipt["outcome"], receipt["exitcode"]


def output(rig: Rig, job: Job, name: str = "joblog.txt") -> str:
    return rig.store.get(job.bucket, name).decode()


def shared_containers(rig: Rig) -> list[Any]:
    return [one for one in rig.containers() if "leruli.shared" in one.labels]


def is_begun(rig: Rig) -> bool:
    """Return whether a command runs in a shared container."""
    return any((rig.node_dir / "jobs" / ".shared").glob("*/rundir/joblog.txt"))


def test_attempts_of_one_user_share_a_container(rig: Rig) -> None:
    where = "cat /etc/hostname >host; cat in; exit "
    jobs = [shared_job(rig, f"{where}{code}", files={"in": b"%d" % code}) for code in range(6)]
    first = begin(rig)
    assert rig.stage_out(first) == 0, rig.log[-3000:]
    for code, job in enumerate(jobs):
        assert ended(rig, job) == ("ended", code)
        assert output(rig, job) == str(code)
        assert "host" in rig.store.names(job.bucket)
    assert len({output(rig, job, "host") for job in jobs}) == 1
    wait_for(lambda: all(rig.is_clean(job) for job in (first, *jobs)), 10)
    assert not shared_containers(rig)
    assert not list((rig.node_dir / "jobs" / ".shared").iterdir())
    receipt = rig.receipt(jobs[0])
    assert receipt["wallseconds"] < 10
    assert receipt["peakmemorymb"] >= 1


def test_each_attempt_has_its_own_variables(rig: Rig) -> None:
    jobs = [shared_job(rig, "env | grep ^LERULI_ | sort", timelimit=60 + n) for n in range(3)]
    for number, job in enumerate(jobs[:2]):
        job.grant["batch"] = f"batch-{number}"
    assert rig.stage_out(begin(rig)) == 0, rig.log[-3000:]
    for number, job in enumerate(jobs):
        assert ended(rig, job) == ("ended", 0)
        told = dict(line.split("=", 1) for line in output(rig, job).splitlines())
        assert told.pop("LERULI_NODE")
        assert told == {
            "LERULI_JOB_ID": job.job,
            "LERULI_JOBID": job.job,
            "LERULI_CORES": "1",
            "LERULI_MEMORY_MB": "256",
            "LERULI_MEMORYMB": "256",
            "LERULI_TIME_LIMIT": str(60 + number),
            "LERULI_ATTEMPT": "1",
            **({"LERULI_BATCH": f"batch-{number}"} if number < 2 else {}),
        }


def test_users_images_and_fresh_ones_take_turns(rig: Rig, user_archive: bytes) -> None:
    rig.publish("withuser", "1", user_archive)
    kinds: list[dict[str, Any]] = [{}, {"user": "2"}, {"code": "withuser"}]
    jobs, fresh = [], []
    for _ in range(3):
        jobs += [shared_job(rig, "cat /etc/hostname", **kind) for kind in kinds]
        fresh.append(rig.job("cat /etc/hostname"))
        rig.service.backlog.append(fresh[-1].key)
    first = begin(rig)
    assert rig.stage_out(first, 180) == 0
    hosts = [{output(rig, job) for job in jobs[number :: len(kinds)]} for number in range(3)]
    for job in (*jobs, *fresh):
        assert ended(rig, job) == ("ended", 0)
    assert [len(one) for one in hosts] == [1, 1, 1]
    of_fresh = {output(rig, job) for job in fresh}
    assert len(of_fresh) == 3
    assert len(set.union(of_fresh, *hosts)) == 6


def test_a_time_limit_and_a_kill_are_the_jobs_own(rig: Rig) -> None:
    slow = shared_job(rig, "echo begun; sleep 100", timelimit=2)
    killed = shared_job(rig, "kill -KILL $$")
    hungry = shared_job(rig, "dd if=/dev/zero of=/dev/null bs=400M count=1")
    fine = shared_job(rig, "echo fine")
    first = begin(rig)
    assert rig.stage_out(first) == 0
    assert ended(rig, slow)[0] == "time_limit"
    assert output(rig, slow) == "begun\n"
    assert ended(rig, killed) == ("ended", 137)
    assert ended(rig, hungry)[0] == "out_of_memory"
    assert ended(rig, fine) == ("ended", 0)


def test_nomad_ends_a_slot_with_a_shared_container(rig: Rig) -> None:
    running, never = shared_job(rig, "echo begun; sleep 100"), shared_job(rig, "echo never")
    first = begin(rig)
    asked = rig.stage("out", first)
    wait_for(lambda: is_begun(rig), 30)
    assert rig.stage("end", first).wait(20) == 0
    assert asked.wait(30) == 0
    assert ended(rig, running)[0] == "stopped"
    assert never.key not in rig.service.receipts
    wait_for(lambda: not shared_containers(rig), 10)


def test_one_cancelled_job_does_not_end_its_container(rig: Rig) -> None:
    rig.service.report_seconds = 0.5
    rig.stop()
    rig.start()
    cancelled = shared_job(rig, "cat /etc/hostname >host; sleep 100")
    after = shared_job(rig, "cat /etc/hostname >host")
    first = begin(rig)
    asked = rig.stage("out", first)
    wait_for(lambda: is_begun(rig), 30)
    rig.service.cancelled.add(cancelled.key)
    assert ended(rig, cancelled)[0] == "stopped"
    assert asked.wait(60) == 0
    assert ended(rig, after) == ("ended", 0)
    assert output(rig, cancelled, "host") == output(rig, after, "host")


@pytest.mark.parametrize(("seconds", "count"), [(0, 30), (2, 4)])
def test_an_agent_that_is_killed_finds_the_job_in_its_container(
    rig: Rig, seconds: int, count: int
) -> None:
    command = f"echo once >>counted; sleep {seconds}; cat counted"
    jobs = [shared_job(rig, command) for _ in range(count)]
    first = begin(rig)
    asked = rig.stage("out", first)
    wait_for(lambda: shared_containers(rig), 20)
    for _ in range(3):
        time.sleep(0.7)
        rig.kill()
        rig.start()
    for job in jobs:
        assert ended(rig, job) == ("ended", 0)
        assert output(rig, job) == "once\n"
    assert asked.wait(60) == 0
    wait_for(lambda: not shared_containers(rig), 10)


def test_a_container_that_is_killed_costs_one_attempt(rig: Rig) -> None:
    lost = shared_job(rig, "sleep 100")
    first = begin(rig)
    asked = rig.stage("out", first)
    wait_for(lambda: is_begun(rig), 30)
    [container] = shared_containers(rig)
    container.kill()
    assert ended(rig, lost)[0] == "node_trouble"
    assert asked.wait(60) == 0
    wait_for(lambda: not shared_containers(rig), 10)


def test_a_node_that_is_shut_down_leaves_no_shared_container(rig: Rig) -> None:
    running = shared_job(rig, "sleep 100")
    first = begin(rig)
    rig.stage("out", first)
    wait_for(lambda: is_begun(rig), 30)
    rig.settings["LERULI_NODE_DRAIN_SECONDS"] = "1"
    rig.kill()
    rig.start()
    rig.stage("out", first)
    wait_for(lambda: len(shared_containers(rig)) == 1, 20)
    rig.stop()
    assert not shared_containers(rig)
    assert ended(rig, running)[0] == "stopped"
