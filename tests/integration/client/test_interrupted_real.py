"""Submissions that were interrupted after the service had accepted the jobs.

At the real service and storage. `kill -9`, Ctrl-C and a break between the service's commit
and the journal's line leave the same: leruli.bucket, a claim in the journal, and no job id.
"""

from __future__ import annotations

import fcntl
import json
import uuid

import pytest
from batch_world import COUNT, begin, check_each_once, job_of, set_states, submitting
from folder_world import SUBMIT

LOST = 50


def journal_of(cases):
    [path] = cases.glob("leruli.batch-*")
    return path


def bucket_of(folder):
    return (folder / "leruli.bucket").read_text().strip()


def count_jobs(queue, group):
    return queue.sql("SELECT count(*) FROM jobs WHERE group_id = $1", group.id)[0][0]


@pytest.fixture
def unanswered(cases, submitted):
    """The last folders of a batch: the service accepted them, and no answer was read."""
    lost = submitted[-LOST:]
    names = {folder.name for folder in lost}
    path = journal_of(cases)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text(
        "".join(
            line
            for line in lines
            if "job" not in json.loads(line) or json.loads(line)["folder"] not in names
        )
    )
    for folder in lost:
        (folder / "leruli.job").unlink()
    return lost


@pytest.fixture
def running(unanswered, queue, group, store):
    """The same folders with running jobs. A node uploads the end of the log at intervals."""
    for folder in unanswered:
        store.put(bucket_of(folder), "joblog.txt", b"so far")
    return unanswered


@pytest.mark.parametrize("has_journal", [True, False])
def test_running_jobs_are_found_and_not_submitted_again(
    real, cases, queue, group, running, store, has_journal
):
    if not has_journal:
        journal_of(cases).unlink()
    (running[0] / "input.dat").write_text("changed since")
    sent = store.find(bucket_of(running[0]), "run.tgz")

    done = real(*submitting(), "--json")

    # One folder was edited after its job was submitted.
    assert done.returncode == 1
    assert f"Not submitted: {running[0].name}: input.dat changed" in done.stderr
    report = json.loads(done.stdout)
    assert report["edited"] == [running[0].name]
    assert sorted(report["submitted"]) == [folder.name for folder in running[1:]]
    assert {name: job_of(cases / name) for name in report["submitted"]} == report["submitted"]
    check_each_once(cases, queue, group)
    # The input of the running job is not replaced.
    assert store.find(bucket_of(running[0]), "run.tgz") == sent
    assert f"{COUNT - 1} skipped" in real(*submitting()).stdout


def test_an_earlier_acceptance_is_reported(real, cases, queue, group, running):
    done = real(*submitting())
    assert done.returncode == 0, done.stderr
    assert f"{LOST} of them had been accepted before already" in done.stderr


def test_a_single_folder_continues_too(real, cases, queue, group, store):
    folder = cases / "case-000"
    first = real(*SUBMIT, cwd=folder).stdout
    (folder / "leruli.job").unlink()
    store.put(bucket_of(folder), "joblog.txt", b"so far")

    again = real(*SUBMIT, cwd=folder)

    assert (again.returncode, again.stdout) == (0, first), again.stderr
    assert "was accepted already" in again.stderr
    assert job_of(folder) == first.strip()
    assert count_jobs(queue, group) == 1


@pytest.mark.parametrize("batch", [(), ("--batch", ".")], ids=["one", "batch"])
def test_a_bucket_with_results_and_no_job_is_never_submitted(
    real, cases, queue, group, store, batch
):
    """A job would run with any content of such a bucket, and replace its results."""
    folder, bucket = cases / "case-000", str(uuid.uuid4())
    (folder / "leruli.bucket").write_text(f"{bucket}\n")
    store.make_bucket(bucket)
    store.put(bucket, "joblog.txt", b"results")

    done = real(SUBMIT[0], *batch, *SUBMIT[1:], cwd=folder)

    assert done.returncode == 1
    assert "holds results" in done.stderr
    assert "no job of yours" in done.stderr
    assert [item.name for item in store.list(bucket)] == ["joblog.txt"]
    assert count_jobs(queue, group) == 0


def test_live_output_in_a_bucket_is_no_result(real, cases, queue, group, store):
    folder = cases / "case-001"
    assert real(*SUBMIT, cwd=folder).returncode == 0
    queue.sql("DELETE FROM jobs WHERE group_id = $1", group.id)
    (folder / "leruli.job").unlink()
    store.put(bucket_of(folder), ".leruli/live/1/out/000000000000000", b"step 1")
    done = real(*SUBMIT, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert count_jobs(queue, group) == 1


def test_another_users_job_is_not_revealed(real, cases, queue, group, store):
    folder = cases / "case-000"
    jobid = real(*SUBMIT, cwd=folder).stdout.strip()
    (folder / "leruli.job").unlink()
    store.put(bucket_of(folder), "joblog.txt", b"so far")

    done = real(*SUBMIT, cwd=folder, LERULI_API_SECRET=group.admin_secret)

    assert done.returncode == 1
    assert "no job of yours" in done.stderr
    assert jobid not in done.stdout + done.stderr


@pytest.mark.parametrize("batch", [(), ("--batch", ".")], ids=["one", "batch"])
def test_a_folder_with_the_bucket_of_another_user_is_refused(real, cases, queue, group, batch):
    """It is a copy of their folder without leruli.job, and there are no results yet."""
    folder = cases / "case-000"
    jobid = real(*SUBMIT, cwd=folder).stdout.strip()
    (folder / "leruli.job").unlink()
    admin = {"cwd": folder, "LERULI_API_SECRET": group.admin_secret}

    done = real(SUBMIT[0], *batch, *SUBMIT[1:], **admin)

    assert done.returncode == 1
    assert "Another user of the group has submitted a job with this bucket" in done.stderr
    assert "delete its leruli.bucket" in done.stderr
    assert jobid not in done.stdout + done.stderr
    assert not (folder / "leruli.job").exists()
    (folder / "leruli.bucket").unlink()
    assert real(SUBMIT[0], *batch, *SUBMIT[1:], **admin).returncode == 0
    assert count_jobs(queue, group) == 2


def test_status_shows_the_states_of_the_queue(real, cases, queue, group, unanswered, store):
    before = journal_of(cases).read_text()
    done = real("task-status", "--batch", "case-*", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["counts"] == {"received": COUNT}
    known = {str(row["id"]) for row in queue.sql("SELECT id FROM jobs")}
    assert {one["jobid"] for one in document["folders"]} <= known
    # task-status changes nothing.
    assert journal_of(cases).read_text() == before
    assert not (unanswered[0] / "leruli.job").exists()


def test_all_are_cancelled(real, cases, queue, group, unanswered):
    done = real("task-cancel", "--batch", "case-*")
    assert (done.returncode, done.stdout) == (0, f"Cancelled {COUNT}.\n"), done.stderr
    states = queue.sql("SELECT DISTINCT state FROM jobs WHERE group_id = $1", group.id)
    assert [row["state"] for row in states] == ["cancelled"]


def test_all_are_fetched_and_purged(real, cases, queue, group, running):
    queue.sql("UPDATE jobs SET state = 'completed', ended_at = now() WHERE group_id = $1", group.id)
    done = real("task-get", "--batch", "case-*", "--json")
    assert done.returncode == 0, done.stderr
    fetched = json.loads(done.stdout)["fetched"]
    assert {folder.name for folder in running} <= set(fetched)
    assert (running[0] / "joblog.txt").read_text() == "so far"
    check_each_once(cases, queue, group)  # the ids are in their folders now
    (running[0] / "leruli.job").unlink()
    journal_of(cases).unlink()
    done = real("task-purge", "--batch", running[0].name)
    assert done.stdout == "Purged 1.\n", done.stderr


@pytest.mark.parametrize("verb", ["task-status", "task-cancel"])
def test_a_job_that_only_the_journal_knows_counts(real, cases, queue, group, submitted, verb):
    """A power cut may leave the files of a folder empty."""
    for folder in submitted[:LOST]:
        (folder / "leruli.job").unlink()
        (folder / "leruli.bucket").write_text("")
    done = real(verb, "--batch", "case-*", "--json")
    assert done.returncode == 0, done.stderr
    assert "not submitted" not in done.stdout


def test_the_job_of_one_folder_is_found_by_its_bucket(real, cases, queue, group):
    folder = cases / "case-000"
    first = real(*SUBMIT, cwd=folder).stdout.strip()
    (folder / "leruli.job").unlink()
    assert real("task-bucket", cwd=folder).stdout.strip() == bucket_of(folder)
    assert json.loads(real("task-status", "--json", cwd=folder).stdout)["jobid"] == first
    assert f"Job {first} is received" in real("task-purge", cwd=folder).stderr
    done = real("task-cancel", "--json", cwd=folder)
    assert json.loads(done.stdout)["status"] == "cancelled", done.stderr
    # A folder whose submission did not reach the queue has no job.
    new = _folder(cases, "new")
    (new / "leruli.bucket").write_text(f"{uuid.uuid4()}\n")
    for verb, code in (("task-status", 4), ("task-cancel", 4), ("task-purge", 1)):
        done = real(verb, cwd=new)
        assert done.returncode == code
        assert "no job of yours with it" in done.stderr


def test_failed_jobs_are_submitted_again(real, cases, queue, group, unanswered):
    queue.sql("UPDATE jobs SET state = 'failed', ended_at = now() WHERE group_id = $1", group.id)
    done = real("task-resubmit", "--failed", *submitting()[1:], "--json")
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["submitted"]) == COUNT
    assert count_jobs(queue, group) == 2 * COUNT


def test_one_failed_job_is_submitted_again(real, cases, queue, group):
    folder = cases / "case-000"
    first = real(*SUBMIT, cwd=folder).stdout.strip()
    set_states(queue, group, "failed", [folder])
    (folder / "leruli.job").unlink()
    done = real("task-resubmit", *SUBMIT[1:], cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == job_of(folder) != first
    assert (folder / "leruli.history" / first / "leruli.bucket").exists()
    assert count_jobs(queue, group) == 2


def test_reading_creates_no_journal_and_needs_no_lock(real, cases, queue, group, submitted):
    path = journal_of(cases)
    with path.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert real("task-status", "--batch", "case-*").returncode == 0
        assert real("task-get", "--batch", "case-*").returncode == 1
    path.unlink()
    for verb in ("task-status", "task-cancel"):
        assert real(verb, "--batch", "case-*").returncode == 0
    assert not path.exists()


def test_a_folder_that_another_process_may_submit_is_not_reported_as_cancelled(
    real, cases, queue, group, submitted
):
    (cases / "case-new").mkdir()
    with journal_of(cases).open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        done = real("task-cancel", "--batch", "case-*")
    assert done.returncode == 1
    assert done.stdout == f"Cancelled {COUNT}; 1 failed.\n"
    assert "Not cancelled: case-new: Another leruli is at work on this batch" in done.stderr
    assert real("task-cancel", "--batch", "case-*").returncode == 0


def test_a_second_resubmission_at_the_same_time_makes_no_third_job(
    real, cases, queue, group, submitted, monkeypatch
):
    """The first one reads the folders. Then the second one runs, and the first continues."""
    from leruli.cli import run
    from leruli.folder.journal import Journal

    set_states(queue, group, "failed", submitted[:2])
    opened, others = Journal.opened, []

    def opened_late(batch):
        if not others:
            others.append(real("task-resubmit", "--failed", *submitting()[1:]))
        return opened(batch)

    monkeypatch.setattr(Journal, "opened", opened_late)
    monkeypatch.chdir(cases)

    assert run(["task-resubmit", "--failed", *submitting()[1:]]) == 0

    assert others[0].returncode == 0
    assert count_jobs(queue, group) == COUNT + 2
    for folder in submitted[:2]:
        assert len(list(folder.glob("leruli.history/*"))) == 1


def test_a_second_resubmission_of_one_folder_makes_no_third_job(
    real, cases, queue, group, submitted, monkeypatch
):
    from leruli.cli import run
    from leruli.jobs import resubmit as resubmitting

    command = ["task-resubmit", "--failed", "psi4", "1.5", "psi4"]
    set_states(queue, group, "failed", submitted[:1])
    archive, others = resubmitting.archive_previous, []

    def archive_late(selection, **options):
        others.append(real(*command, cwd=submitted[0]))
        archive(selection, **options)

    monkeypatch.setattr(resubmitting, "archive_previous", archive_late)
    monkeypatch.chdir(submitted[0])

    assert run(command) == 1

    assert others[0].returncode == 0
    assert job_of(submitted[0]) == others[0].stdout.strip()
    assert count_jobs(queue, group) == COUNT + 1


def test_jobs_have_the_names_of_their_folders(real, cases, queue, group):
    odd = cases / "case-\N{RIGHT-TO-LEFT OVERRIDE}\x1b[31m"
    odd.mkdir()
    long = cases / ("case-" + "x" * 240)
    long.mkdir()
    assert real(*submitting()).returncode == 0
    assert real(*SUBMIT, "--", "x", cwd=_folder(cases, "water")).returncode == 0
    names = {
        row["name"] for row in queue.sql("SELECT name FROM jobs WHERE group_id = $1", group.id)
    }
    assert {"case-000", "case-149", "water", "case-__[31m", "case-" + "x" * 195} <= names
    assert "default" not in names
    assert "\tcase-000\t" in real("task-list", "--all").stdout


def _folder(cases, name):
    (cases / name).mkdir()
    return cases / name


def test_a_full_backlog_is_waited_for(real, cases, queue, group):
    """The wait exceeds the retry time, which is for a queue that does not answer."""
    sentence = "The group has 100 jobs waiting, and at most 100 may wait."
    # In place of a minute.
    retry_soon = "from leruli_queue.jobs import backlog; backlog._RETRY_AFTER_S = 5"
    with queue.restarted_with(preparation=retry_soon, MAX_WAITING=100):
        process = begin(cases, *submitting(), LERULI_RETRY_SECONDS="2")
        told = [process.stderr.readline()]
        while "503" not in told[-1]:
            assert told[-1], told
            told.append(process.stderr.readline())
        assert sentence in told[-1]
        assert "Submitted so far: 100 of 150 folders." in told[-1]
        # A single submission fails after the retry time, and says why.
        one = _folder(cases, "one")
        alone = real(*SUBMIT, cwd=one, LERULI_RETRY_SECONDS="2")
        assert alone.returncode == 5
        assert sentence in alone.stderr
        assert "LERULI_BASEURL" not in alone.stderr
        queue.sql(
            "UPDATE jobs SET state = 'completed', ended_at = now() WHERE group_id = $1", group.id
        )
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        assert out.startswith("Submitted 150 ")
        check_each_once(cases, queue, group)
