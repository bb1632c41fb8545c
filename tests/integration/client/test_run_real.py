"""`leruli run`, with the real service and the real storage.

No node runs here. Tests put output, logs and results into the real storage by hand, as a node agent
does, and end the job in the database (live_world.py).
"""

from __future__ import annotations

import json
import shutil
import signal
import tarfile

import client_fake_service as fake
import pytest
from batch_world import begin, ended, job_of, wait_for
from folder_world import SUBMIT
from live_world import Live
from terminal_world import Terminal

RUN = ("run", *SUBMIT[1:])


@pytest.fixture
def live(real, store, queue, group, water):
    """The job of the folder `water`, which is not submitted yet."""
    return Live(store, queue, group, water)


@pytest.fixture
def start(live, water):
    """Begin `leruli run`; return when its job runs."""

    def start(*arguments, **settings):
        before = (water / "leruli.job").read_text() if (water / "leruli.job").exists() else ""
        running = begin(water, *(arguments or RUN), **settings)
        wait_for(lambda: (water / "leruli.job").exists() and job_of(water) != before.strip())
        live.run(1)
        return running

    return start


def finish(live, output=b"energy -76.4\n", **ending):
    """End the job as a node does, with a result."""
    live.put_log("out", output)
    live.put_log("err", b"a warning\n")
    live.store.put(live.bucket, "output.dat", output)
    live.end(**({"state": "completed", "outcome": "ended", "exit_code": 0} | ending))


def jobs_of(queue, group):
    return queue.sql("SELECT id, state::text FROM jobs WHERE group_id = $1 ORDER BY id", group.id)


def end_at_fake(service, state, reason):
    """End all jobs of the FAKE service."""
    service.states.update(dict.fromkeys(service.states, (state, reason)))
    answer = {"status": 200, "data": {"status": state, "reason": reason}}
    service.scripted["bulk/task-status"] = lambda body: (200, [answer] * len(body["jobids"]))


def inputs(live):
    """Return the names in the archive that the client sent."""
    archive = live.folder.parent / "sent.tgz"
    archive.write_bytes(live.store.content(live.bucket, "run.tgz"))
    with tarfile.open(archive) as sent:
        return {name.removeprefix("./") for name in sent.getnames()}


def test_it_behaves_like_the_program(real, live, start, store):
    running = start()
    live.write("out", 0, b"step 1\n")
    assert running.stdout.readline() == "step 1\n"
    bucket = live.bucket
    finish(live, b"step 1\nenergy -76.4\n")
    code, output, errors = ended(running)
    assert (code, output) == (0, "energy -76.4\n")
    assert "a warning\n" in errors
    # make runs several at once, so that the line names the folder.
    assert f"water ({job_of(live.folder)[-8:]}) is running\n" in errors
    assert (live.folder / "output.dat").read_bytes() == b"step 1\nenergy -76.4\n"
    # Everything is here, so the storage keeps nothing.
    assert not store.has_bucket(bucket)
    assert real("task-logs", cwd=live.folder).stdout == "step 1\nenergy -76.4\n"


@pytest.mark.parametrize(
    ("ending", "code"),
    [
        ({"outcome": "ended", "exit_code": 3}, 3),
        ({"outcome": "time_limit", "exit_code": 137}, 124),
        ({"outcome": "out_of_memory", "exit_code": 0}, 137),
        ({"outcome": "upload_failed", "exit_code": 0}, 125),
        ({"state": "cancelled", "outcome": "stopped", "exit_code": 143}, 143),
    ],
)
def test_the_exit_code_is_that_of_the_job(live, start, ending, code):
    running = start("run", "--json", *RUN[1:])
    finish(live, **{"state": "failed", **ending})
    found, output, errors = ended(running)
    assert found == code
    document = json.loads(output)
    assert (document["exitcode"], document["outcome"]) == (code, ending["outcome"])
    assert sorted(document["files"]) == ["joberr.txt", "joblog.txt", "output.dat"]
    assert "energy -76.4\n" in errors


def test_a_failure_of_an_older_queue_has_the_exit_code_of_its_reason(leruli, service, water, store):
    """At the FAKE service, which has no task-detail."""
    running = begin(water, *RUN)
    wait_for((water / "leruli.job").exists)
    store.put((water / "leruli.bucket").read_text().strip(), "joblog.txt", b"")
    end_at_fake(service, "failed", "its command ended with exit code 7")
    assert ended(running)[0] == 7


def test_keep_and_no_fetch(live, start):
    running = start("run", "--keep", *RUN[1:])
    finish(live)
    assert ended(running)[0] == 0
    assert live.store.has_bucket(live.bucket)
    first = job_of(live.folder)

    running = start("run", "--no-fetch", *RUN[1:])
    finish(live, b"another\n")
    assert ended(running)[:2] == (0, "another\n")
    assert (live.folder / "output.dat").read_bytes() == b"energy -76.4\n"
    assert live.store.has_bucket(live.bucket)
    assert (live.folder / "leruli.history" / first / "leruli.job").exists()

    # Its end was told, so the same command runs again.
    running = start()
    finish(live)
    assert ended(running)[0] == 0


def test_a_killed_run_is_taken_up(real, live, start, queue, group):
    running = start()
    live.write("out", 0, b"step 1\n")
    assert running.stdout.readline() == "step 1\n"
    running.kill()
    running.wait()
    again = begin(live.folder, *RUN)
    assert again.stdout.readline() == "step 1\n"
    again.kill()
    again.wait()
    # The job ends while nobody looks. Its end is told once.
    finish(live, b"step 1\nstep 2\n")
    told = real(*RUN, cwd=live.folder)
    assert (told.returncode, told.stdout) == (0, "step 1\nstep 2\n")
    assert f"Going on with job {job_of(live.folder)}" in told.stderr
    assert len(jobs_of(queue, group)) == 1
    # A program that is called again runs again.
    running = start()
    assert len(jobs_of(queue, group)) == 2
    finish(live)
    assert ended(running)[0] == 0


def test_an_interrupted_submission_is_taken_up(leruli, service, water):
    """At the FAKE service, which accepts the job and loses the answer."""
    service.faults.extend([fake.LOST_ANSWER] * 50)
    running = begin(water, *RUN)
    wait_for(lambda: service.jobs)
    running.kill()
    running.wait()
    service.faults.clear()
    [job] = service.jobs.values()
    other = leruli(*RUN[:-1], "other.dat", cwd=water)
    assert "The job of this folder is received, and it was submitted with another command" in (
        other.stderr
    )
    end_at_fake(service, "cancelled", "cancelled by its owner")
    done = leruli(*RUN, cwd=water)
    assert done.returncode == 143, done.stderr
    assert (job_of(water), len(service.jobs)) == (job["id"], 1)


def test_a_folder_has_one_job_at_a_time(real, live, start, queue, group):
    running = start()
    running.kill()
    running.wait()
    other = real(*RUN[:-1], "other.dat", cwd=live.folder)
    assert other.returncode == 125
    assert "The job of this folder is running, and it was submitted with another command" in (
        other.stderr
    )
    other = real("run", "--cores", "2", *RUN[1:], cwd=live.folder)
    assert "with other limits" in other.stderr
    (live.folder / "input.dat").write_text("molecule { he }\n")
    edited = real(*RUN, cwd=live.folder)
    assert edited.returncode == 125
    assert "input.dat changed after it was submitted" in edited.stderr
    assert len(jobs_of(queue, group)) == 1


def test_results_stay_where_they_are(live, start):
    """As `make` expects it of a program, whose last output is in the folder."""
    running = start()
    finish(live)
    assert ended(running)[0] == 0
    (live.folder / "input.dat").write_text("molecule { he }\n")
    running = start()
    assert (live.folder / "output.dat").read_bytes() == b"energy -76.4\n"
    assert "output.dat" not in inputs(live)
    finish(live, b"energy -2.8\n")
    _, _, errors = ended(running)
    assert "Not sent, as results of the last job: joberr.txt, joblog.txt, output.dat" not in errors
    assert "Not sent, as results of the last job: output.dat" in errors
    assert (live.folder / "output.dat").read_bytes() == b"energy -2.8\n"
    running = start("run", "--with-results", *RUN[1:])
    assert "output.dat" in inputs(live)
    finish(live)
    assert ended(running)[0] == 0


def test_unfetched_results_of_another_command_are_named(real, live, job):
    finish(live)
    first = job_of(job)
    running = begin(job, *RUN[:-1], "input.dat", "-n", "4")
    assert ended(running)[0] == 2  # -n is no option of ours
    running = begin(job, *RUN[:-1], "other.dat")
    wait_for(lambda: (job / "leruli.job").exists() and job_of(job) != first)
    live.run(1)
    finish(live, b"another\n")
    _, _, errors = ended(running)
    assert f"In leruli.history/{first} `leruli task-get` fetches them" in errors
    assert real("task-get", cwd=job / "leruli.history" / first).returncode == 0
    kept = job / "leruli.history" / first / "output.dat"
    assert kept.read_bytes() == b"energy -76.4\n"


def test_output_into_a_file_of_the_folder(live, water):
    """The shell makes the file before the client starts; it is no input."""
    with (water / "out.txt").open("wb") as file:
        running = begin(water, *RUN, stdout=file)
        wait_for((water / "leruli.job").exists)
        live.run(1)
        live.write("out", 100, b"not the first piece\n")
        assert "out.txt" not in inputs(live)
        finish(live, b"x" * 200 + b"\n")
        assert ended(running)[0] == 0
    # A file gets all of the output, also what the live objects lacked.
    assert (water / "out.txt").read_bytes() == b"x" * 200 + b"\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_without_a_terminal_a_signal_cancels(live, start, queue, group, number):
    running = start()
    running.send_signal(number)
    code, _, errors = ended(running)
    first = job_of(live.folder)
    # It ends by the signal: a shell's loop ends with it.
    assert code == -number
    assert f"Job {first} is cancelled." in errors
    [job] = queue.sql("SELECT cancel_requested_at FROM jobs WHERE id = $1::uuid", first)
    assert job["cancel_requested_at"] is not None
    # The same command waits for the end of the cancelled job, and then runs a new one.
    again = begin(live.folder, *RUN)
    live.end("cancelled")
    wait_for(lambda: (live.folder / "leruli.job").exists() and job_of(live.folder) != first)
    live.run(1)
    finish(live)
    assert ended(again)[0] == 0


def test_a_signal_during_the_submission_cancels_too(leruli, service, water):
    """At the FAKE service, which accepts the job and loses the answer."""
    service.faults.extend([fake.LOST_ANSWER] * 50)
    running = begin(water, *RUN)
    wait_for(lambda: service.jobs)
    service.faults.clear()
    running.terminate()
    code, _, errors = ended(running)
    [job] = service.jobs.values()
    assert (code, service.states[job["id"]][0]) == (-signal.SIGTERM, "cancelled"), errors


def test_ctrl_c_on_a_terminal_asks(live, real, queue, group):
    def interrupt(*typed):
        with Terminal(*RUN, cwd=live.folder) as terminal:
            terminal.wait_for("is received")
            terminal.type("\x03")
            for text in typed:
                terminal.wait_for("Cancel the job?")
                terminal.type(text)
            return terminal.ended()

    left = interrupt("n\n")
    assert left.returncode == -signal.SIGINT
    assert "The job goes on. Run the same command again in this folder" in left.text
    twice = interrupt("\x03")
    assert twice.returncode == -signal.SIGINT
    assert "The job goes on." in twice.text
    [job] = jobs_of(queue, group)
    assert job["state"] == "received"
    cancelled = interrupt("y\n")
    assert cancelled.returncode == -signal.SIGINT
    assert "is cancelled." in cancelled.text
    [job] = jobs_of(queue, group)
    assert job["state"] == "cancelled"
    # It never ran, so nothing is left of it in the storage.
    assert not (live.folder / "leruli.bucket").exists()


def test_the_arguments_of_a_program_stay_as_they_are(live, start):
    running = start("run", "psi4", "1.5", "--", "sh", "-c", "echo one; echo two", "a b")
    archive = live.folder.parent / "sent.tgz"
    archive.write_bytes(live.store.content(live.bucket, "run.tgz"))
    with tarfile.open(archive) as sent:
        script = sent.extractfile("./run.sh").read().decode()
    assert script == "#!/bin/bash\nsh -c 'echo one; echo two' 'a b'\n"
    finish(live)
    assert ended(running)[0] == 0


def test_a_reader_that_ends_early(real, live, start):
    running = start()
    running.stdout.close()
    live.write("out", 0, b"step 1\n")
    assert running.wait(60) == 141
    assert "The job goes on." in running.stderr.read()
    assert real("task-status", cwd=live.folder).stdout.startswith("running")


def test_a_copied_folder_needs_new(real, live, start, tmp_path):
    running = start()
    finish(live)
    assert ended(running)[0] == 0
    copy = tmp_path / "copy"
    shutil.copytree(live.folder, copy)
    refused = real(*RUN, cwd=copy)
    assert refused.returncode == 125
    assert "holds the job of" in refused.stderr


def test_wrong_usage(real, water):
    assert real("run", "psi4", "1.5", cwd=water).returncode == 2
    unknown = real("run", "psi4", "9.9", "psi4", cwd=water)
    assert unknown.returncode == 125
    document = json.loads(real("run", "--json", "psi4", "9.9", "psi4", cwd=water).stdout)
    assert document["error"]["exit_code"] == 125
    assert not (water / "leruli.job").exists()
