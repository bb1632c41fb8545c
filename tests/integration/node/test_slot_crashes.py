"""An agent that is killed at each step of a further attempt: nothing lost, nothing twice."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from node_rig import Job, Rig, wait_for

Condition = Callable[[Rig, Job], Any]


def begin(rig: Rig) -> Job:
    """The attempt that Nomad placed, with its container at its end."""
    first = rig.job("echo first", goes_on=True)
    assert rig.stage_in(first) == 0, rig.log[-3000:]
    rig.run_container(first).wait(timeout=60)
    return first


def state_of(rig: Rig, job: Job) -> dict[str, Any]:
    try:
        return rig.state(job)
    except FileNotFoundError:
        return {}


def container_of(rig: Rig, job: Job) -> str | None:
    found = [one for one in rig.containers() if one.labels.get("leruli.attempt") == job.name]
    return found[0].status if found else None


def is_asked(rig: Rig, job: Job) -> bool:
    return any(name == "slot-next" and body["slots"] for name, body in rig.service.calls)


STEPS: dict[str, Condition] = {
    "asked": is_asked,
    "granted": state_of,
    "staged": lambda rig, job: state_of(rig, job).get("phase") in ("staged", "decided"),
    "container made": container_of,
    "started": lambda rig, job: container_of(rig, job) in ("running", "exited"),
    "ended": lambda rig, job: container_of(rig, job) == "exited",
    "decided": lambda rig, job: state_of(rig, job).get("decision"),
    "receipt": lambda rig, job: job.key in rig.service.receipts,
}


@pytest.mark.parametrize("step", STEPS)
def test_an_agent_that_is_killed_at_a_step_of_a_further_attempt(rig: Rig, step: str) -> None:
    """The command may run once, and each job has the output of that run."""
    jobs = [rig.job(f"echo {number} >>counted; sleep 0.5; cat counted") for number in range(3)]
    rig.service.backlog += [job.key for job in jobs]
    if step in ("ended", "decided"):
        # The upload waits, so that the step can be seen.
        rig.service.silence_seconds = 0.0
        rig.service.lose_answers["attempt-upload"] = 10**6
    first = begin(rig)
    asked = rig.stage("out", first)
    wait_for(lambda: STEPS[step](rig, jobs[0]), 30, step)
    rig.kill()
    rig.service.lose_answers.clear()
    rig.start()
    assert asked.wait(90) == 0
    for number, job in enumerate(jobs):
        receipts = [body for key, body in rig.service.receipts.items() if key[0] == job.job]
        assert [receipt["outcome"] for receipt in receipts] == ["ended"]
        assert rig.store.get(job.bucket, "joblog.txt") == b"%d\n" % number
    wait_for(lambda: not list((rig.node_dir / "attempts").glob("*.json")), 10)
    assert not rig.containers()


def test_an_answer_that_an_agent_had_before_it_was_killed_grants_nothing_twice(rig: Rig) -> None:
    jobs = [rig.job(f"sleep 1; echo {number}") for number in range(2)]
    rig.service.backlog += [job.key for job in jobs]
    first = begin(rig)
    asked = rig.stage("out", first)
    wait_for(lambda: state_of(rig, jobs[0]), 20)
    rig.kill()
    [slot] = (rig.node_dir / "slots").glob("*.json")
    key = json.loads(slot.read_text())["key"]
    assert jobs[0].key in rig.service.granted[key]
    rig.start()
    assert asked.wait(90) == 0
    assert all(job.key in rig.service.receipts for job in jobs)
    assert sum(len(granted) for granted in rig.service.granted.values()) == 2


@pytest.mark.parametrize("was_aborted", [False, True])
def test_an_attempt_that_is_being_given_back_does_not_begin(rig: Rig, was_aborted: bool) -> None:
    """The agent is killed before it knows whether the service took the attempt back.

    Perhaps it ended the attempt's stage-in before, which alone would be the outcome `stopped`.
    """
    long, ahead = rig.job("sleep 6; echo long"), rig.job("echo ran")
    rig.service.backlog += [long.key, ahead.key]
    first = begin(rig)
    asked = rig.stage("out", first)
    wait_for(lambda: state_of(rig, ahead).get("phase") == "staged", 20)
    rig.service.lose_answers["slot-next"] = 10**6
    wait_for(lambda: state_of(rig, ahead).get("is_returning"), 20)
    rig.kill()
    if was_aborted:
        path = rig.node_dir / "attempts" / f"{ahead.id}.json"
        noted = {"phase": "granted", "problem_outcome": "stopped", "problem_message": "stopped"}
        path.write_text(json.dumps(rig.state(ahead) | noted))
    rig.service.lose_answers.clear()
    rig.start()
    assert asked.wait(90) == 0
    assert long.key in rig.service.receipts
    assert ahead.key in rig.service.returned
    assert ahead.key not in rig.service.receipts
    assert (ahead.job, 2) in rig.service.receipts


def test_a_slot_whose_end_was_begun_is_ended_by_the_next_agent(rig: Rig) -> None:
    running = rig.job("trap '' TERM; sleep 100; sleep 100")
    rig.service.backlog.append(running.key)
    rig.settings["LERULI_NODE_GRACE_SECONDS"] = "6"
    rig.stop()
    rig.start()
    first = begin(rig)
    asked = rig.stage("out", first)
    wait_for(rig.runs, 20)
    assert rig.stage("end", first).wait(20) == 0
    rig.kill()
    rig.start()
    assert asked.wait(60) == 0
    assert rig.service.receipts[running.key]["outcome"] == "stopped"


def test_without_the_service_what_runs_ends_and_is_kept(rig: Rig) -> None:
    running = rig.job("sleep 3; echo through")
    rig.service.backlog.append(running.key)
    first = begin(rig)
    asked = rig.stage("out", first)
    wait_for(rig.runs, 20)
    rig.service.down = True
    wait_for(lambda: state_of(rig, running).get("decision") or _receipts(rig), 30)
    rig.service.down = False
    assert asked.wait(90) == 0
    # The slot may have ended while the service was away. The receipt is sent by itself then.
    wait_for(lambda: running.key in rig.service.receipts, 60)
    assert rig.service.receipts[running.key]["outcome"] == "ended"
    assert rig.store.get(running.bucket, "joblog.txt") == b"through\n"


def _receipts(rig: Rig) -> list[Path]:
    return list((rig.node_dir / "receipts").glob("*.json"))
