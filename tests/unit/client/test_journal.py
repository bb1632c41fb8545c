"""The journal of a batch, its folders, and work in many threads."""

import fcntl
import json
import os
import sys
import threading
import time

import pytest

from leruli.errors import LeruliError, NotFoundError, RefusedError
from leruli.folder.job_folder import JobFolder
from leruli.folder.journal import Journal, JournalView, journal_path
from leruli.folder.packing import take_inventory
from leruli.folder.patterns import find_folders
from leruli.jobs.recover import recover as recover_folders
from leruli.jobs.workers import work_through
from leruli.terminal import progress


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("case-1", "case-2", "sub/case-3"):
        (tmp_path / name).mkdir(parents=True)
    return tmp_path


def test_the_journal_lies_beside_the_batch(here):
    assert journal_path("case-*/") == journal_path("case-*/")
    assert journal_path("case-*/") != journal_path("case-1*/")
    assert journal_path("case-*").parent == journal_path("./case-*").parent
    assert journal_path("sub/case-*").parent.name == "sub"
    assert journal_path(f"{here}/sub/case-*/x").parent == here / "sub"
    assert journal_path("sub/case-3").parent.name == "sub"
    (here / "sub" / "list.txt").touch()
    assert journal_path("sub/list.txt") == here.joinpath("sub/leruli.batch-list.txt").relative_to(
        here
    )
    assert str(journal_path("-")) == "leruli.batch-stdin"


def test_the_journal_survives_a_move_of_the_tree(here, monkeypatch):
    with Journal.opened("case-*") as journal:
        journal.claim([("case-1", "bucket-1"), ("case-2/", "bucket-2")])
        journal.accept([("./case-2", "bucket-2", "job-2")])
        journal.note_fetched("case-2", "job-2")
        assert journal.entry("case-2").job == "job-2"
    here.rename(here.with_name("moved"))
    monkeypatch.chdir(here.with_name("moved"))
    with Journal.opened("case-*") as journal:
        assert (journal.entry("case-1").bucket, journal.entry("case-1").job) == ("bucket-1", None)
        second = journal.entry("case-2")
        assert (second.bucket, second.job, second.fetched_job) == ("bucket-2", "job-2", "job-2")
        assert journal.entry("case-3").bucket is None
        journal.claim([("case-2", "bucket-new")])
        assert journal.entry("case-2").job is None


def test_a_truncated_line_is_ignored_and_does_no_harm(here):
    with Journal.opened("case-*") as journal:
        journal.claim([("case-1", "bucket-1")])
    with journal.path.open("a") as file:
        file.write('{"folder": "case-2", "buck')
    with Journal.opened("case-*") as journal:
        assert journal.entry("case-2").bucket is None
        journal.claim([("case-2", "bucket-2")])
    with Journal.opened("case-*") as journal:
        assert journal.entry("case-1").bucket == "bucket-1"
        assert journal.entry("case-2").bucket == "bucket-2"


@pytest.mark.parametrize("line", ["[]", "7", '{"folder": 7}', "\x00\x00", '{"bucket": "b"}'])
def test_invalid_lines_are_ignored(here, line):
    journal_path("case-*").write_text(f"{line}\n")
    with Journal.opened("case-*") as journal:
        assert journal.entry("case-1").bucket is None


def test_claims_are_on_the_disk_before_anything_else_happens(here, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(journal.path.read_text()))
    with Journal.opened("case-*") as journal:
        journal.claim([("case-1", "bucket-1")])
        assert "bucket-1" in synced[-1]


def test_one_process_holds_the_journal(here):
    with Journal.opened("case-*") as journal:
        with pytest.raises(RefusedError, match="Another leruli"), Journal.opened("case-*"):
            pass
        with journal.path.open() as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with Journal.opened("case-*"):
        pass


def test_a_journal_that_cannot_be_written_is_an_error(here):
    with pytest.raises(RefusedError, match="journal of the batch"), Journal.opened("absent/case-*"):
        pass


def test_names_that_are_not_utf8(here):
    name = os.fsdecode(b"case-\xff")
    (here / name).mkdir()
    with Journal.opened("case-*") as journal:
        journal.claim([(name, "bucket")])
    with Journal.opened("case-*") as journal:
        assert journal.entry(name).bucket == "bucket"
    for line in journal.path.read_text().splitlines():
        json.loads(line)


def test_a_view_changes_nothing_and_needs_no_lock(here):
    assert JournalView.of("case-*").entry("case-1").bucket is None
    assert not journal_path("case-*").exists()
    with Journal.opened("case-*") as journal:
        journal.claim([("case-1", "bucket-1")])
        view = JournalView.of("case-*")
        assert view.is_held
        assert view.entry("case-1").bucket == "bucket-1"
    assert not JournalView.of("case-*").is_held
    journal_path("case-*").unlink()
    journal_path("case-*").mkdir()
    with pytest.raises(RefusedError, match="cannot be read"):
        JournalView.of("case-*")


def test_a_reader_locks_nobody_out(here):
    with Journal.opened("case-*") as journal:
        path = journal.path
    with path.open() as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        timer = threading.Timer(0.1, fcntl.flock, (looking, fcntl.LOCK_UN))
        timer.start()
        with Journal.opened("case-*"):
            pass
        timer.join()


def recover(*names, known=()):
    """Recover folders with a service that knows the jobs of some buckets."""
    with Journal.opened("case-*") as journal:
        return recover_folders(
            journal, names, lambda buckets: [dict(known).get(bucket) for bucket in buckets]
        )


BUCKET, JOB = "00000000-0000-4000-8000-000000000001", "job-1"


@pytest.fixture
def accepted(here):
    with Journal.opened("case-*") as journal:
        journal.claim([("case-1", BUCKET)])
        journal.accept([("case-1", BUCKET, JOB)])
    return here / "case-1"


def test_files_that_a_crash_left_empty_are_written_again(accepted):
    (accepted / "leruli.job").touch()
    (accepted / "leruli.bucket").touch()
    recover("case-1", "case-2", "absent")
    assert (accepted / "leruli.job").read_text() == f"{JOB}\n"
    assert (accepted / "leruli.bucket").read_text() == f"{BUCKET}\n"


def test_an_accepted_job_without_its_file_gets_the_file(accepted):
    (accepted / "leruli.bucket").write_text(f"{BUCKET}\n")
    recover("case-1")
    assert (accepted / "leruli.job").read_text() == f"{JOB}\n"


def test_a_job_that_only_the_service_knows_is_written_down(here):
    with Journal.opened("case-*") as journal:
        journal.claim([("case-1", BUCKET), ("case-2", "bucket-2")])
    for name, bucket in (("case-1", BUCKET), ("case-2", "bucket-2")):
        (here / name / "leruli.bucket").write_text(f"{bucket}\n")
    # An empty file as after a power cut.
    (here / "case-1" / "leruli.job").touch()
    assert recover("case-1", "case-2", "absent", known={BUCKET: JOB}) == {"case-1": JOB}
    assert (here / "case-1" / "leruli.job").read_text() == f"{JOB}\n"
    assert not (here / "case-2" / "leruli.job").exists()
    assert JournalView.of("case-*").entry("case-1").job == JOB


def test_a_folder_without_a_trace_is_new(accepted):
    recover("case-1")
    assert list(accepted.iterdir()) == []


def test_a_folder_with_another_bucket_is_left_alone(accepted):
    other = BUCKET.replace("1", "2")
    (accepted / "leruli.bucket").write_text(f"{other}\n")
    recover("case-1")
    assert (accepted / "leruli.bucket").read_text() == f"{other}\n"
    assert not (accepted / "leruli.job").exists()


def test_archiving_the_last_job_continues_after_an_interruption(here):
    folder = JobFolder("case-1")
    path = here / "case-1"
    for name in ("input.dat", "joblog.txt", "result.out"):
        (path / name).write_text(name)
    (path / "leruli.job").write_text("job-1\n")
    history = path / "leruli.history" / "job-1"
    history.mkdir(parents=True)
    # As after a crash in the middle.
    (history / "leruli.bucket").write_text("bucket-1\n")
    assert not folder.was_set_aside()

    folder.set_aside("job-1")
    folder.set_aside(None)

    assert folder.was_set_aside()
    assert {one.name for one in history.iterdir()} == {"leruli.job", "leruli.bucket", "joblog.txt"}
    assert {one.name for one in path.iterdir()} == {"input.dat", "result.out", "leruli.history"}
    (path / "leruli.batch-list.txt").touch()
    packed = {entry.name for entry in take_inventory("case-1").entries}
    assert packed == {"input.dat", "result.out"}


def test_archiving_that_fails_leaves_the_job_in_place(here):
    path = here / "case-1"
    (path / "joblog.txt").touch()
    (path / "leruli.job").write_text("job-1\n")
    (path / "leruli.history" / "job-1" / "joblog.txt").mkdir(parents=True)
    with pytest.raises(RefusedError, match="Cannot move"):
        JobFolder("case-1").set_aside("job-1")
    assert JobFolder("case-1").job() == "job-1"


def test_comments_in_a_list_of_folders(here, monkeypatch):
    lines = "# all of them\ncase-1\n\n  # not case-3\n./case-1\n case-2\n"
    (here / "list").write_text(lines)
    assert find_folders("list") == ["./case-1", "case-2"]
    with (here / "list").open() as file:
        monkeypatch.setattr(sys, "stdin", file)
        assert find_folders("-") == ["./case-1", "case-2"]
    with pytest.raises(NotFoundError):
        find_folders("nothing-*")


def test_work_is_done_ahead_but_not_far(here):
    begun = []

    def work(item, check_cancelled):
        begun.append(item)
        check_cancelled()
        if item == 5:
            raise RefusedError("No.")
        if item == 6:
            raise RuntimeError("defect")
        return item * 2

    outcomes = work_through(iter(range(1000)), work, 2)
    first = next(outcomes)
    time.sleep(0.2)
    assert len(begun) <= 9
    found = dict([first, *outcomes])
    assert [found[0], found[999], len(found)] == [0, 1998, 1000]
    assert isinstance(found[5], RefusedError)
    assert isinstance(found[6], LeruliError)
    assert "RuntimeError: defect" in str(found[6])


def test_closing_cancels_the_work(here):
    stopped = threading.Event()

    def work(item, check_cancelled):
        if item == 0:
            return item
        try:
            while True:
                check_cancelled()
                time.sleep(0.01)
        finally:
            stopped.set()

    outcomes = work_through(range(10), work, 2)
    assert next(outcomes) == (0, 0)
    outcomes.close()
    assert stopped.is_set()


def test_without_a_terminal_progress_is_printed_at_intervals(monkeypatch):
    told = []
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    with progress.progress(
        "Submitting", 100, unit="folder", visible=False, notice=told.append
    ) as advance:
        for _ in range(25):
            clock[0] += 1.0
            advance(1)
    assert told == [
        "Submitting: 10 of 100 folders, 1/s, about 90 s to go.",
        "Submitting: 20 of 100 folders, 1/s, about 80 s to go.",
    ]
