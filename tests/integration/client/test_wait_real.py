"""task-wait, and --wait of task-submit and task-get, with the real service and storage."""

from __future__ import annotations

import json
import signal
import time

import pytest
from batch_world import begin, ended, job_of, set_states, wait_for
from folder_world import SUBMIT


@pytest.mark.parametrize(("state", "code"), [("completed", 0), ("failed", 10), ("cancelled", 11)])
def test_the_exit_code_says_how_the_job_ended(real, queue, group, job, state, code):
    waiting = begin(job, "task-wait", "--quiet")
    with pytest.raises(Exception, match="timed out"):
        waiting.wait(timeout=3)
    set_states(queue, group, state, [job])
    began = time.monotonic()
    assert ended(waiting) == (code, f"{state}: exit code 3\n", "")
    # Mostly within 0.5 s; tests run side by side.
    assert time.monotonic() - began < 15
    # A job that is over already.
    assert real("task-wait", job_of(job)).returncode == code


def test_time_over(real, job):
    done = real("task-wait", "--timeout", "1", cwd=job)
    assert done.returncode == 12
    assert "it goes on" in done.stderr
    assert real("task-status", cwd=job).stdout.startswith("received")


def test_ctrl_c_leaves_the_job_alone(real, job):
    waiting = begin(job, "task-wait")
    time.sleep(3)
    waiting.send_signal(signal.SIGINT)
    code, _, errors = ended(waiting)
    assert code == 130
    assert "The jobs go on" in errors
    assert real("task-status", cwd=job).stdout.startswith("received")


def test_a_batch(real, queue, group, few, tmp_path):
    waiting = begin(tmp_path, "task-wait", "--batch", "case-*")
    set_states(queue, group, "completed", few[:2])
    time.sleep(2)
    assert waiting.poll() is None
    set_states(queue, group, "failed", few[2:])
    code, output, errors = ended(waiting)
    assert code == 10
    assert output == "3 jobs: 2 completed, 1 failed.\n"
    assert "Failed: case-2: exit code 3" in errors


def test_any(queue, group, few, tmp_path):
    waiting = begin(tmp_path, "task-wait", "--any", *[job_of(folder) for folder in few])
    time.sleep(2)
    set_states(queue, group, "completed", few[1:2])
    jobid = job_of(few[1])
    assert ended(waiting)[:2] == (0, f"{jobid}\t{jobid}\tcompleted\texit code 3\n")


def test_json(real, queue, group, few, tmp_path):
    (tmp_path / "case-9").mkdir()
    set_states(queue, group, "cancelled", few)
    done = real("task-wait", "--json", "--batch", "case-*")
    assert done.returncode == 1
    document = json.loads(done.stdout)
    assert document["problems"] == {"case-9": "not submitted"}
    assert document["jobs"][0] == {
        "job": "case-0",
        "jobid": job_of(few[0]),
        "isover": True,
        "status": "cancelled",
        "reason": "exit code 3",
    }


def test_submit_and_get_wait(real, queue, group, water):
    submitting = begin(water, *SUBMIT[:1], "--wait", "--json", *SUBMIT[1:])
    wait_for((water / "leruli.job").exists)
    set_states(queue, group, "failed", [water])
    code, output, _ = ended(submitting)
    assert code == 10
    document = json.loads(output)
    assert document["jobid"] == document["jobs"][0]["jobid"] == job_of(water)
    got = real("task-get", "--wait", "--json", "--with-input", cwd=water)
    assert got.returncode == 10
    assert json.loads(got.stdout)["jobs"][0]["status"] == "failed"
    assert json.loads(got.stdout)["status"] == "failed"


def test_get_does_not_fetch_when_the_time_is_over(real, job):
    done = real("task-get", "--wait", "--timeout", "1", "--with-input", cwd=job)
    assert done.returncode == 12
    assert "Fetched" not in done.stdout


def test_the_service_restarts(queue, group, job):
    waiting = begin(job, "task-wait", LERULI_RETRY_SECONDS="1")
    time.sleep(3)
    queue.kill()
    try:
        set_states(queue, group, "completed", [job])
        time.sleep(3)
        assert waiting.poll() is None
    finally:
        queue.start()
    code, output, errors = ended(waiting)
    assert (code, output) == (0, "completed: exit code 3\n")
    assert "trying again" in errors or "did not answer" in errors


def test_an_older_queue_is_polled(leruli, service, water):
    """At the FAKE service, which has no events."""
    states = iter(["received", "running", "completed"])
    service.scripted["bulk/task-status"] = lambda body: (
        200,
        [{"status": 200, "data": {"status": next(states), "reason": None}} for _ in body["jobids"]],
    )
    assert leruli(*SUBMIT, cwd=water).returncode == 0
    done = leruli("task-wait", cwd=water)
    assert (done.returncode, done.stdout) == (0, "completed\n")
    assert service.calls.count("bulk/task-status") == 3


def test_a_lost_answer_and_an_old_cursor(leruli, service, water, lost_answer):
    """At the FAKE service: an answer is lost, then the cursor is refused."""
    assert leruli(*SUBMIT, cwd=water).returncode == 0
    over = {"jobid": job_of(water), "state": "completed"}
    begin_at = iter(["1-0", "7-0"])
    asked = []

    def events(body):
        asked.append(body["cursor"])
        if len(asked) == 1:
            service.faults.append(lost_answer)  # of the call after this one
        if body["cursor"] == "1-0":
            return 410, {"detail": "The cursor cannot be used any more."}
        if body["cursor"] == "7-0":
            return 200, {"events": [over], "cursor": "8-0", "more": False}
        return 200, {"events": [], "cursor": next(begin_at), "more": False}

    service.scripted["task-events"] = events
    service.scripted["bulk/task-status"] = lambda _: (
        200,
        [{"status": 200, "data": {"status": "received", "reason": None}}],
    )
    done = leruli("task-wait", cwd=water)
    assert (done.returncode, done.stdout) == (0, "completed\n"), done.stderr
    assert asked == [None, "1-0", None, "7-0"]
    # A cursor, the states, and both once more.
    assert service.calls.count("bulk/task-status") == 3
