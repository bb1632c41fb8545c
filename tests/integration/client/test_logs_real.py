"""task-logs, with the real service and the real storage.

No node runs here. Tests put the live objects and the logs into the real storage by hand, as a node
agent does (leruli_node writes them).
"""

from __future__ import annotations

import json
import signal

import pytest
from batch_world import begin, ended, job_of, wait_for
from folder_world import SUBMIT
from live_world import Live


@pytest.fixture
def live(store, queue, group, job):
    return Live(store, queue, group, job)


def follow_to_first_step(live, job):
    """Begin to follow a job that runs; return when its first line is printed."""
    live.run(1)
    following = begin(job, "task-logs", "-f")
    live.write("out", 0, b"step 1\n")
    assert following.stdout.readline() == "step 1\n"
    return following


@pytest.mark.parametrize(("state", "code"), [("completed", 0), ("failed", 10), ("cancelled", 11)])
def test_a_job_that_is_over(real, live, job, state, code):
    live.put_log("out", b"energy -76.4\n")
    live.put_log("err", b"a warning\n")
    live.end(state)
    assert real("task-logs", cwd=job).stdout == "energy -76.4\n"
    assert real("task-logs", "--err", job_of(job)).stdout == "a warning\n"
    followed = real("task-logs", "-f", cwd=job)
    assert (followed.returncode, followed.stdout) == (code, "energy -76.4\n")
    document = json.loads(real("task-logs", "--json", "--err", cwd=job).stdout)
    assert (document["text"], document["stream"], document["status"]) == (
        *("a warning\n", "err"),
        state,
    )


def test_a_job_without_output(real, live, job):
    done = real("task-logs", cwd=job)
    assert (done.returncode, done.stdout) == (0, "")
    assert "There is no output yet. The job is received" in done.stderr
    live.end("cancelled")
    done = real("task-logs", cwd=job)
    assert done.returncode == 4
    assert "There is no joblog.txt of this job" in done.stderr


def test_the_fetched_log_is_printed_after_a_purge(real, live, job):
    live.put_log("out", b"energy -76.4\n")
    live.end("completed")
    assert real("task-get", cwd=job).returncode == 0
    assert real("task-purge", cwd=job).returncode == 0
    assert real("task-logs", cwd=job).stdout == "energy -76.4\n"
    # From elsewhere nobody has the log.
    assert real("task-logs", job_of(job)).returncode == 4


def test_live_objects_are_no_results(real, live, job):
    live.run(1)
    live.write("out", 0, b"step 1\n")
    live.put_log("out", b"step 1\nstep 2\n")
    live.end("completed")
    assert real("task-get", "--all", cwd=job).returncode == 0
    assert (job / "joblog.txt").read_bytes() == b"step 1\nstep 2\n"
    assert not (job / ".leruli").exists()
    assert real("task-purge", cwd=job).returncode == 0


def test_what_a_running_job_has_written(real, live, job):
    live.run(1)
    live.write("out", 70_000, b"step 700\n")
    live.write("err", 0, b"a warning\n")
    done = real("task-logs", cwd=job)
    assert (done.returncode, done.stdout) == (0, "step 700\n")
    assert "the 70000 bytes before this are not shown" in done.stderr
    assert real("task-logs", "--err", cwd=job).stdout == "a warning\n"
    [row] = live.followed()
    assert str(row["job_id"]) == job_of(job)


def test_a_running_job_that_is_silent(real, live, job):
    live.run(1)
    done = real("task-logs", cwd=job)
    assert (done.returncode, done.stdout) == (0, "")
    assert "There is no output yet. The job is running" in done.stderr


def test_following(real, live, job):
    following = begin(job, "task-logs", "-f")
    live.run(1)
    live.write("out", 0, b"step 1\n")
    assert following.stdout.readline() == "step 1\n"
    live.write("out", 7, b"step 2\n")
    assert following.stdout.readline() == "step 2\n"
    assert following.poll() is None
    live.remove_live()
    live.put_log("out", b"step 1\nstep 2\nstep 3\n")
    live.end("failed", "its command ended with exit code 3")
    code, output, errors = ended(following)
    assert (code, output) == (10, "step 3\n")
    assert "The job is failed: its command ended with exit code 3.\n" in errors


def test_a_job_that_begins_again(real, live, job):
    following = follow_to_first_step(live, job)
    # A node was lost. The next attempt removes what was left.
    live.remove_live()
    live.requeue()
    live.run(2)
    live.write("out", 0, b"step 1 again\n")
    assert following.stdout.readline() == "step 1 again\n"
    live.put_log("out", b"step 1 again\nstep 2\n")
    live.end("completed")
    code, output, errors = ended(following)
    assert (code, output) == (0, "step 2\n")
    assert "The job began again, as attempt 2" in errors


def test_ctrl_c_and_time_over_leave_the_job_alone(real, live, job):
    following = follow_to_first_step(live, job)
    following.send_signal(signal.SIGINT)
    code, _, errors = ended(following)
    assert code == 130
    assert "The job goes on. Run `leruli task-logs -f`" in errors
    done = real("task-logs", "-f", "--timeout", "1", cwd=job)
    assert (done.returncode, done.stdout) == (12, "step 1\n")
    assert "it goes on" in done.stderr
    assert real("task-status", cwd=job).stdout.startswith("running")


def test_the_document_is_alone_on_standard_output(real, live, job):
    live.run(1)
    following = begin(job, "task-logs", "-f", "--json")
    live.write("out", 0, b"step 1\n")
    assert following.stderr.readline() == "step 1\n"
    live.put_log("out", b"step 1\n")
    live.end("completed")
    code, output, errors = ended(following)
    assert (code, errors) == (0, "")
    assert json.loads(output)["status"] == "completed"


def test_an_older_queue_shows_the_output_at_the_end(leruli, service, water, store):
    """At the FAKE service, which has neither events nor task-follow."""
    assert leruli(*SUBMIT, cwd=water).returncode == 0
    jobid = job_of(water)
    service.states[jobid] = ("running", None)
    following = begin(water, "task-logs", "-f")
    wait_for(lambda: service.calls.count("bulk/task-status") > 1)
    store.put((water / "leruli.bucket").read_text().strip(), "joblog.txt", b"step 1\n")
    service.scripted["bulk/task-status"] = lambda _: (
        200,
        [{"status": 200, "data": {"status": "completed", "reason": None}}],
    )
    code, output, errors = ended(following)
    assert (code, output) == (0, "step 1\n")
    assert errors.count("The queue is older than this client") == 1
