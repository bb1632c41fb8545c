"""Very short jobs in shared containers are granted and prepared several at a time."""

from __future__ import annotations

from typing import Any

import pytest
from node_rig import Job, Rig, wait_for

Key = tuple[str, int]


def follow(rig: Rig, *commands: str, share_container: bool = True) -> list[Job]:
    jobs = [rig.job(command, share_container=share_container) for command in commands]
    rig.service.backlog += [job.key for job in jobs]
    return jobs


def begin(rig: Rig) -> tuple[Job, Any]:
    """The attempt that Nomad placed, and the driver's question for stage-out."""
    first = rig.job("echo first", goes_on=True)
    assert rig.stage_in(first) == 0, rig.log[-3000:]
    rig.run_container(first).wait(timeout=60)
    return first, rig.stage("out", first)


def questions(rig: Rig) -> list[dict[str, Any]]:
    with rig.service.lock:
        bodies = [body for name, body in rig.service.calls if name == "slot-next"]
    return [slot for body in bodies for slot in body["slots"]]


def staged(rig: Rig, jobs: list[Job]) -> list[Key]:
    """Those of the jobs that are prepared and have not ended."""
    found = []
    for job in jobs:
        try:
            if rig.state(job)["phase"] == "staged":
                found.append(job.key)
        except (FileNotFoundError, ValueError):
            continue
    return found


def receipts(rig: Rig, job: Job) -> list[str]:
    """How the attempts of a job ended that were not given back."""
    with rig.service.lock:
        ends = dict(rig.service.receipts)
    return [body["outcome"] for key, body in ends.items() if key[0] == job.job]


def is_running(rig: Rig, name: str) -> bool:
    """Return whether the job runs that makes a file of this name."""
    return any((rig.node_dir / "jobs" / ".shared").glob(f"*/rundir/{name}"))


def all_end_once(rig: Rig, jobs: list[Job]) -> None:
    for job in jobs:
        wait_for(lambda job=job: receipts(rig, job), 60, "a receipt")
    assert [receipts(rig, job) for job in jobs] == [["ended"]] * len(jobs)


def test_one_question_is_answered_with_several_very_short_jobs(rig: Rig) -> None:
    jobs = follow(rig, *(f"echo {number}" for number in range(40)))
    _, asked = begin(rig)
    all_end_once(rig, jobs)
    assert asked.wait(60) == 0
    outputs = [rig.store.get(job.bucket, "joblog.txt") for job in jobs]
    assert outputs == [b"%d\n" % number for number in range(40)]
    # The first jobs are asked for one by one: how short they are is not known.
    assert {slot["ahead"] for slot in questions(rig)} == {0, 3}
    assert len(questions(rig)) < 25
    assert not rig.service.returned


def test_fresh_containers_are_made_one_ahead(rig: Rig) -> None:
    jobs = follow(rig, *["true"] * 6, share_container=False)
    _, asked = begin(rig)
    all_end_once(rig, jobs)
    assert asked.wait(60) == 0
    assert {slot["ahead"] for slot in questions(rig)} == {0}


def quick_and(rig: Rig, command: str) -> tuple[list[Job], list[Job], tuple[Job, Any]]:
    """Very short jobs, a longer one after them, and more very short ones."""
    quick = follow(rig, *["true"] * 12)
    [longer] = follow(rig, f"touch begun; {command}")
    after = follow(rig, *(f"echo once >>counted; cat counted; : {n}" for n in range(8)))
    slot = begin(rig)
    wait_for(lambda: is_running(rig, "begun"), 60, "the longer job")
    return [*quick, longer], after, slot


@pytest.mark.parametrize(("seconds", "kept"), [(1.7, 1), (6, 0)])
def test_what_waits_behind_a_longer_job_is_given_back(rig: Rig, seconds: float, kept: int) -> None:
    quick, after, (_, asked) = quick_and(rig, f"sleep {seconds}")
    all_end_once(rig, [*quick, *after])
    assert asked.wait(60) == 0
    with rig.service.lock:
        granted = {key for keys in rig.service.granted.values() for key in keys}
    # Several were prepared. The first of them stays, and the others were given back.
    assert len(rig.service.returned) >= 2
    assert (after[0].key in granted) == bool(kept)
    assert rig.service.returned <= {job.key for job in after[kept:]}
    assert all(rig.store.get(job.bucket, "joblog.txt") == b"once\n" for job in after)


def test_an_agent_that_is_killed_runs_several_prepared_attempts_once(rig: Rig) -> None:
    quick, after, (_, asked) = quick_and(rig, "sleep 0.8")
    wait_for(lambda: len(staged(rig, after)) >= 2, 10, "prepared attempts")
    rig.kill()
    rig.start()
    all_end_once(rig, [*quick, *after])
    assert asked.wait(90) == 0
    assert all(rig.store.get(job.bucket, "joblog.txt") == b"once\n" for job in after)
    wait_for(lambda: not list((rig.node_dir / "attempts").glob("*.json")), 10)


def test_nomad_ends_a_slot_with_several_prepared_attempts(rig: Rig) -> None:
    quick, after, (first, asked) = quick_and(rig, "sleep 100")
    wait_for(lambda: len(staged(rig, after)) >= 2, 10, "prepared attempts")
    assert rig.stage("end", first).wait(20) == 0
    assert asked.wait(60) == 0
    assert receipts(rig, quick[-1]) == ["stopped"]
    assert not any(receipts(rig, job) for job in after)
    assert {job for job, _ in rig.service.backlog} == {job.job for job in after}
    assert not list((rig.node_dir / "attempts").glob("*.json"))


def test_one_of_several_prepared_attempts_is_cancelled(rig: Rig) -> None:
    rig.service.report_seconds = 0.2
    rig.stop()
    rig.start()
    quick, after, (_, asked) = quick_and(rig, "sleep 2")
    wait_for(lambda: len(staged(rig, after)) >= 2, 10, "prepared attempts")
    rig.service.cancelled.add(after[0].key)
    assert asked.wait(60) == 0
    assert after[0].key in rig.service.returned
    assert after[0].key not in rig.service.receipts
    all_end_once(rig, [*quick, *after])


def test_an_agent_that_is_stopped_hands_several_prepared_attempts_back(rig: Rig) -> None:
    rig.kill()
    rig.settings["LERULI_NODE_DRAIN_SECONDS"] = "8"
    rig.start()
    quick, after, (_, asked) = quick_and(rig, "sleep 12")
    wait_for(lambda: len(staged(rig, after)) >= 2, 10, "prepared attempts")
    assert rig.stop() == 0
    # Nomad ended with the agent. The driver would ask the next one.
    asked.kill()
    asked.wait()
    assert receipts(rig, quick[-1]) == ["stopped"]
    assert not any(receipts(rig, job) for job in after)
    assert {job for job, _ in rig.service.backlog} == {job.job for job in after}
