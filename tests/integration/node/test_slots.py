"""A slot of a real agent and a real Docker: one attempt after the other, in one allocation."""

from __future__ import annotations

import time
from typing import Any

import pytest
from node_rig import Job, Rig, wait_for


def follow(rig: Rig, *jobs: Job) -> None:
    rig.service.backlog += [job.key for job in jobs]


def begin(rig: Rig, command: str = "echo first") -> Job:
    """The attempt that Nomad placed, with its container at its end."""
    first = rig.job(command, goes_on=True)
    assert rig.stage_in(first) == 0, rig.log[-3000:]
    rig.run_container(first).wait(timeout=60)
    return first


def running(rig: Rig) -> list[dict[str, Any]]:
    """The attempts of which the service was told that their command runs."""
    bodies = [body for name, body in rig.service.calls if name == "slot-next"]
    return [one for body in bodies for one in body["running"]]


def asked(rig: Rig) -> list[dict[str, Any]]:
    """The calls with a question for further attempts."""
    calls = list(rig.service.calls)
    return [body for name, body in calls if name == "slot-next" and body["slots"]]


def again(job: Job) -> tuple[str, int]:
    """The next attempt of a job that was given back."""
    return (job.job, job.attempt + 1)


def ended(rig: Rig, job: Job) -> tuple[str, int | None]:
    """How a job ended, in the attempt that was not given back."""

    def receipts() -> list[dict[str, Any]]:
        return [body for key, body in rig.service.receipts.items() if key[0] == job.job]

    [receipt] = wait_for(receipts, 30, "a receipt")
    return receipt["outcome"], receipt["exitcode"]


def test_a_slot_runs_one_attempt_after_the_other(rig: Rig) -> None:
    jobs = [rig.job(f"cat in; exit {code}", {"in": b"%d" % code}) for code in range(3)]
    follow(rig, *jobs)
    first = begin(rig)
    assert rig.stage_out(first) == 0
    assert ended(rig, first) == ("ended", 0)
    for code, job in enumerate(jobs):
        assert ended(rig, job) == ("ended", code)
        assert rig.store.get(job.bucket, "joblog.txt") == b"%d" % code
    wait_for(lambda: all(rig.is_clean(job) for job in (first, *jobs)), 10)
    assert not list((rig.node_dir / "slots").iterdir())
    # None of them asked for a start grant.
    assert rig.service.count("attempt-start") == 1


def test_a_further_container_is_made_as_the_first(rig: Rig) -> None:
    job = rig.job("sleep 3", memorymb=256)
    follow(rig, job)
    first = rig.job("true", goes_on=True)
    assert rig.stage_in(first) == 0
    made = rig.run_container(first)
    made.wait(timeout=60)
    made.reload()
    asked = rig.stage("out", first)
    wait_for(rig.runs, 20)
    [other] = [one for one in rig.containers() if one.labels["leruli.attempt"] == job.name]
    before, after = made.attrs["HostConfig"], other.attrs["HostConfig"]
    folder = str(rig.node_dir / "jobs")
    assert after.pop("Binds") == [
        f"{folder}/{job.name}/rundir:/rundir",
        f"{folder}/{job.name}/control:/leruli",
    ]
    before.pop("Binds")
    assert after == before
    for name in ("Env", "Entrypoint", "Cmd", "WorkingDir", "User"):
        assert sorted(other.attrs["Config"][name] or []) == sorted(made.attrs["Config"][name] or [])
    assert asked.wait(60) == 0


def test_without_another_job_the_place_is_given_back_at_once(rig: Rig) -> None:
    first = begin(rig)
    began = time.monotonic()
    assert rig.stage_out(first) == 0
    assert time.monotonic() - began < 10
    assert ended(rig, first) == ("ended", 0)


def test_a_service_that_knows_no_slots_is_asked_nothing(rig: Rig) -> None:
    rig.run(rig.job("true"))
    assert rig.service.count("slot-next") == 0


@pytest.mark.parametrize("killed_in", ["sleep 6; echo through", "echo at once"])
def test_an_agent_that_is_killed_goes_on_with_the_slot(rig: Rig, killed_in: str) -> None:
    jobs = [rig.job(killed_in), rig.job("echo last")]
    follow(rig, *jobs)
    first = begin(rig)
    asked = rig.stage("out", first)
    wait_for(lambda: rig.service.count("slot-next"), 20)
    rig.kill()
    rig.start()
    for job in jobs:
        assert ended(rig, job) == ("ended", 0)
    said = killed_in.rpartition("echo ")[2].encode() + b"\n"
    assert rig.store.get(jobs[0].bucket, "joblog.txt") == said
    assert asked.wait(60) == 0
    assert sum(len(granted) for granted in rig.service.granted.values()) == 2


def test_an_agent_that_is_killed_finds_the_slot_after_its_first_attempt_is_over(rig: Rig) -> None:
    running, last = rig.job("sleep 4; echo through"), rig.job("echo last")
    follow(rig, running, last)
    first = begin(rig)
    asked = rig.stage("out", first)
    wait_for(lambda: rig.is_clean(first), 20)
    wait_for(rig.runs, 20)
    rig.kill()
    rig.start()
    assert (ended(rig, running), ended(rig, last)) == (("ended", 0), ("ended", 0))
    assert rig.store.get(running.bucket, "joblog.txt") == b"through\n"
    assert running.key not in rig.service.returned
    assert asked.wait(60) == 0


def test_a_lost_answer_grants_nothing_twice(rig: Rig) -> None:
    jobs = [rig.job(f"echo {number}") for number in range(3)]
    follow(rig, *jobs)
    rig.service.lose_answers["slot-next"] = 2
    first = begin(rig)
    assert rig.stage_out(first) == 0
    for number, job in enumerate(jobs):
        assert ended(rig, job) == ("ended", 0)
        assert rig.store.get(job.bucket, "joblog.txt") == b"%d\n" % number


@pytest.mark.parametrize("command", ["sleep 100", "trap '' TERM; sleep 100; sleep 100"])
def test_nomad_ends_a_slot(rig: Rig, command: str) -> None:
    running, ahead, waiting = rig.job(command), rig.job("echo ahead"), rig.job("echo never")
    follow(rig, running, ahead, waiting)
    first = begin(rig)
    asked = rig.stage("out", first)
    wait_for(rig.runs, 20)
    assert rig.stage("end", first).wait(20) == 0
    assert asked.wait(30) == 0
    assert ended(rig, running)[0] == "stopped"
    assert rig.service.backlog == [again(ahead), waiting.key]
    assert rig.service.returned == {ahead.key}
    assert rig.is_clean(ahead)


def test_the_next_attempt_is_prepared_while_a_short_one_runs(rig: Rig) -> None:
    short, ahead = rig.job("sleep 2"), rig.job("echo ahead")
    follow(rig, short, ahead)
    first = begin(rig)
    asked = rig.stage("out", first)
    wait_for(rig.runs, 20)
    wait_for(lambda: len(rig.containers()) == 2, 5, "a container that is made ahead")
    assert asked.wait(60) == 0
    assert (ended(rig, short), ended(rig, ahead)) == (("ended", 0), ("ended", 0))
    assert not rig.service.returned


def test_what_was_prepared_is_given_back_when_the_running_one_turns_out_long(rig: Rig) -> None:
    long, ahead = rig.job("sleep 8"), rig.job("echo ahead")
    follow(rig, long, ahead)
    first = begin(rig)
    asked = rig.stage("out", first)
    wait_for(lambda: rig.service.returned, 20)
    assert rig.runs()
    assert rig.service.returned == {ahead.key}
    wait_for(lambda: rig.is_clean(ahead), 10)
    assert asked.wait(60) == 0
    assert ended(rig, long) == ("ended", 0)
    assert ahead.key not in rig.service.receipts
    assert again(ahead) in rig.service.receipts


def test_a_node_that_is_shut_down_begins_nothing_further(rig: Rig) -> None:
    running, waiting = rig.job("sleep 6; echo done"), rig.job("echo never")
    follow(rig, running)
    first = begin(rig)
    rig.stage("out", first)
    wait_for(rig.runs, 20)
    # The question for the attempt after it: a call may also carry a receipt alone.
    wait_for(lambda: len(asked(rig)) > 1, 10)
    follow(rig, waiting)
    rig.stop()
    assert ended(rig, running) == ("ended", 0)
    assert rig.service.backlog == [waiting.key]


def test_an_attempt_whose_input_is_broken_does_not_end_the_slot(rig: Rig) -> None:
    broken, fine = rig.job(run_tgz=b"no archive"), rig.job("echo fine")
    follow(rig, broken, fine)
    first = begin(rig)
    assert rig.stage_out(first) == 0
    assert ended(rig, broken)[0] == "input_broken"
    assert ended(rig, fine) == ("ended", 0)


def test_a_time_limit_holds_for_a_further_attempt(rig: Rig) -> None:
    slow, fine = rig.job("sleep 100", timelimit=2), rig.job("echo fine")
    follow(rig, slow, fine)
    first = begin(rig)
    assert rig.stage_out(first) == 0
    assert ended(rig, slow)[0] == "time_limit"
    assert ended(rig, fine) == ("ended", 0)


def test_one_call_carries_receipts_and_asks_for_the_next_attempt(rig: Rig) -> None:
    jobs = [rig.job(f"echo {number}") for number in range(6)]
    follow(rig, *jobs)
    first = begin(rig)
    assert rig.stage_out(first) == 0
    assert all(ended(rig, job) == ("ended", 0) for job in jobs)
    # The grants carried the leases to upload, too.
    assert rig.service.count("attempt-upload") == 1
    assert rig.service.count("attempt-end") == 0
    asked = [body for name, body in rig.service.calls if name == "slot-next" and body["slots"]]
    # Two questions without an answer: ahead, while the last one runs, and when it has ended.
    assert len(asked) <= len(jobs) + 2
    assert any(body["receipts"] for body in asked)


def test_a_receipt_that_the_service_refuses_holds_up_no_other(rig: Rig) -> None:
    jobs = [rig.job(f"echo {number}") for number in range(3)]
    rig.service.refused_ends[jobs[0].key] = 422
    follow(rig, *jobs)
    first = begin(rig)
    asked = rig.stage("out", first)
    assert [ended(rig, job) for job in jobs[1:]] == [("ended", 0)] * 2
    assert jobs[0].key not in rig.service.receipts
    assert asked.wait(60) == 0
    assert (rig.node_dir / "receipts" / f"{jobs[0].id}.json").exists()


def test_the_service_is_told_of_a_long_job_alone(rig: Rig) -> None:
    short, long = rig.job("true"), rig.job("sleep 4")
    follow(rig, short, long)
    first = begin(rig)
    assert rig.stage_out(first) == 0
    assert ended(rig, long) == ("ended", 0)
    told = [one["jobid"] for one in running(rig)]
    assert told == [long.job]


def test_a_cancelled_attempt_ends_alone(rig: Rig) -> None:
    rig.service.report_seconds = 0.2
    rig.stop()
    rig.start()
    cancelled, last = rig.job("sleep 100"), rig.job("echo last")
    follow(rig, cancelled, last)
    first = begin(rig)
    asked = rig.stage("out", first)
    wait_for(rig.runs, 20)
    rig.service.cancelled.add(cancelled.key)
    assert ended(rig, cancelled)[0] == "stopped"
    assert ended(rig, last) == ("ended", 0)
    assert asked.wait(60) == 0


def test_a_dropped_attempt_ends_alone_and_without_a_receipt(rig: Rig) -> None:
    rig.service.report_seconds = 0.2
    rig.stop()
    rig.start()
    dropped, last = rig.job("sleep 100"), rig.job("echo last")
    follow(rig, dropped, last)
    first = begin(rig)
    asked = rig.stage("out", first)
    wait_for(rig.runs, 20)
    rig.service.stale.add(dropped.key)
    assert ended(rig, last) == ("ended", 0)
    assert asked.wait(60) == 0
    assert dropped.key not in rig.service.receipts
    assert rig.is_clean(dropped)


def test_nomad_ends_a_slot_for_one_cancelled_attempt(rig: Rig) -> None:
    """The allocation is stopped for an attempt that is over here: the command that runs goes on."""
    running, waiting = rig.job("sleep 6; echo through"), rig.job("echo never")
    follow(rig, running)
    rig.service.lose_answers["attempt-upload"] = 10**6
    first = begin(rig)
    asked = rig.stage("out", first)
    wait_for(rig.runs, 20)
    follow(rig, waiting)
    # Its upload waits for a lease.
    rig.service.cancelled.add(first.key)
    assert rig.stage("end", first).wait(20) == 0
    rig.service.lose_answers.clear()
    assert ended(rig, running) == ("ended", 0)
    assert rig.store.get(running.bucket, "joblog.txt") == b"through\n"
    assert asked.wait(60) == 0
    assert waiting.key not in rig.service.receipts


def test_a_second_cancellation_in_a_slot_that_nomad_ends(rig: Rig) -> None:
    """Nomad tells a stop once. The next regular report is an hour away."""
    running = rig.job("sleep 100")
    follow(rig, running)
    rig.service.lose_answers["attempt-upload"] = 10**6
    first = begin(rig)
    asked = rig.stage("out", first)
    wait_for(rig.runs, 20)
    # Its upload waits for a lease.
    rig.service.cancelled.add(first.key)
    assert rig.stage("end", first).wait(20) == 0
    rig.service.cancelled.add(running.key)
    assert ended(rig, running)[0] == "stopped"
    rig.service.lose_answers.clear()
    assert asked.wait(60) == 0


def test_a_missing_image_holds_up_nothing_that_runs(rig: Rig, plain_archive: bytes) -> None:
    """Loading an image may take minutes; meanwhile the attempt before it ends."""
    rig.publish("other", "1", plain_archive)
    short, other = rig.job("echo short"), rig.job("echo other", code="other")
    follow(rig, short, other)
    first = begin(rig)
    asked = rig.stage("out", first)
    assert ended(rig, short) == ("ended", 0)
    assert ended(rig, other) == ("ended", 0)
    assert asked.wait(60) == 0
