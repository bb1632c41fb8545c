"""D1: a folder with another folder's job or an edited input is reported and not skipped."""

from __future__ import annotations

import json
import shutil

import pytest
from batch_world import job_of
from folder_world import SUBMIT

from leruli.folder.record import FileState, add_results


def batch(verb="task-submit", *options):
    what = SUBMIT[1:] if verb == "task-submit" else ()
    return [verb, "--batch", "mol-*/", *options, *what]


def bucket_of(folder):
    return (folder / "leruli.bucket").read_text().strip()


@pytest.fixture
def ends(queue, store):
    """Let the job of a folder end."""

    def end(folder, state="completed", **results):
        for name, content in results.items():
            store.put(bucket_of(folder), name.replace("_", "."), content.encode())
        queue.sql(
            "UPDATE jobs SET state = $1::job_state, ended_at = now() WHERE id = $2",
            *(state, job_of(folder)),
        )

    return end


@pytest.fixture
def counted(queue, group):
    """Return a function that counts the jobs of the group."""
    return lambda: queue.sql("SELECT count(*) FROM jobs WHERE group_id = $1", group.id)[0][0]


@pytest.fixture
def mol(real, tmp_path, ends):
    """A folder that was calculated and fetched."""
    folder = tmp_path / "mol-0.96"
    folder.mkdir()
    (folder / "input.dat").write_text("r = 0.96\n")
    assert real(*SUBMIT, cwd=folder).returncode == 0
    ends(folder, output_dat="energy -74.9\n", joblog_txt="log\n")
    assert real("task-get", cwd=folder).returncode == 0
    names = ("output.dat", "joblog.txt")
    fetched = {name: FileState.of(str(folder / name)) for name in names}
    add_results(str(folder), bucket_of(folder), fetched)
    return folder


def series(mol, *lengths):
    made = []
    for length in lengths:
        copy = mol.with_name(f"mol-{length}")
        shutil.copytree(mol, copy)
        (copy / "input.dat").write_text(f"r = {length}\n")
        made.append(copy)
    return made


def test_copies_are_reported_and_get_jobs_of_their_own(real, mol, counted, store):
    copies = series(mol, "1.00", "1.10", "1.20")

    told = real(*batch())

    assert told.returncode == 1
    for copy in copies:
        assert f"Not submitted: {copy.name}/: {copy.name}/ holds the job of mol-0.96" in told.stderr
    assert "1 skipped: submitted before; 3 copies of other folders." in told.stdout
    assert "Going on. Submitted before: 1 of 4 folders." in told.stderr
    assert counted() == 1
    report = json.loads(real(*batch("task-submit", "--json")).stdout)
    assert report["skipped"] == ["mol-0.96/"]
    assert sorted(report["copies"]) == sorted(report["failed"])

    done = real(*batch("task-submit", "--new"))

    assert done.returncode == 0, done.stderr
    assert counted() == 4
    assert len({job_of(one) for one in (mol, *copies)}) == 4
    assert len({bucket_of(one) for one in (mol, *copies)}) == 4
    for copy in copies:
        assert (copy / "input.dat").read_text() == f"r = {copy.name[4:]}\n"
        assert not (copy / "output.dat").exists()
        history = copy / "leruli.history" / job_of(mol)
        assert {one.name for one in history.iterdir()} == {"output.dat", "joblog.txt"}
        names = {item.name for item in store.list(bucket_of(copy))}
        assert names == {"run.tgz"}
    assert (mol / "output.dat").read_text() == "energy -74.9\n"
    again = real(*batch())
    assert again.returncode == 0
    assert "4 skipped: submitted before" in again.stdout


def test_one_copy_alone(real, mol, counted):
    [copy] = series(mol, "1.00")
    for verb in (SUBMIT, ("task-resubmit",)):
        told = real(*verb, cwd=copy)
        assert told.returncode == 1
        assert "holds the job of ../mol-0.96" in told.stderr
        assert "--new" in told.stderr
    assert job_of(copy) == job_of(mol)
    done = real("task-resubmit", "--new", "--memory", "8000", "--json", cwd=copy)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["jobid"] == job_of(copy) != job_of(mol)
    assert counted() == 2


def test_an_edited_folder(real, mol, counted, ends):
    (mol / "input.dat").write_text("r = 1.50\n")
    told = real(*batch())
    assert told.returncode == 1
    assert "Not submitted: mol-0.96/: input.dat changed after the job of mol-0.96/" in told.stderr
    assert "1 edited after its submission" in told.stdout
    assert real(*SUBMIT, cwd=mol).returncode == 1
    assert counted() == 1

    last = job_of(mol)
    done = real("task-submit", "--new", *SUBMIT[1:], cwd=mol)

    assert done.returncode == 0, done.stderr
    assert counted() == 2
    assert "Not sent, as results of the last job: joblog.txt, output.dat" in done.stderr
    assert (mol / "leruli.history" / last / "output.dat").exists()
    assert not (mol / "output.dat").exists()
    assert (mol / "input.dat").read_text() == "r = 1.50\n"


def test_an_edited_folder_whose_job_is_not_over(real, mol, counted):
    assert real("task-resubmit", cwd=mol).returncode == 0
    (mol / "input.dat").write_text("r = 1.50\n")
    before = {one: one.read_bytes() for one in mol.iterdir() if one.is_file()}
    for told in (
        real("task-submit", "--new", *SUBMIT[1:], cwd=mol),
        real(*batch("task-submit", "--new")),
    ):
        assert told.returncode == 1
        assert "input.dat changed" in told.stderr
        assert "cancel it with `leruli task-cancel`" in told.stderr
    assert {one: one.read_bytes() for one in mol.iterdir() if one.is_file()} == before
    assert counted() == 2


def test_copies_without_a_record(real, mol, counted):
    """Folders of the published client have no record."""
    (mol / "leruli.folder").unlink()
    [copy] = series(mol, "1.00")
    told = real(*batch())
    assert told.returncode == 1
    assert "mol-1.00/ holds the same job as mol-0.96" in told.stderr
    assert "mol-0.96/ holds the same job as mol-1.00" in told.stderr
    assert "In each copy run `leruli task-submit --new`" in told.stderr
    # One of them is the original, and nothing says which.
    assert real(*batch("task-submit", "--new")).returncode == 1
    assert counted() == 1
    done = real("task-submit", "--new", *SUBMIT[1:], cwd=copy)
    assert done.returncode == 0, done.stderr
    assert "no record that tells results from input" in done.stderr
    assert job_of(copy) != job_of(mol)
    assert bucket_of(copy) != bucket_of(mol)
    assert real(*batch()).returncode == 0


def test_an_interrupted_copy_does_not_continue_with_the_bucket_of_the_original(
    real, tmp_path, counted, queue
):
    first = tmp_path / "mol-0.96"
    first.mkdir()
    (first / "input.dat").write_text("r = 0.96\n")
    assert real(*SUBMIT, cwd=first).returncode == 0
    (first / "leruli.job").unlink()
    [copy] = series(first, "1.00")
    bucket = bucket_of(first)

    told = real(*batch())

    assert told.returncode == 1
    assert "mol-1.00/ holds the job of mol-0.96" in told.stderr
    assert not (copy / "leruli.job").exists()
    assert (first / "leruli.job").exists()
    done = real("task-submit", "--new", *SUBMIT[1:], cwd=copy)
    assert done.returncode == 0, done.stderr
    assert bucket_of(copy) != bucket
    assert counted() == 2


def test_status_shows_copies_and_edited_folders(real, mol):
    """D1: four folders with one job were "4 completed"."""
    [copy] = series(mol, "1.00")

    told = real(*batch("task-status"))

    assert told.returncode == 1
    assert f"mol-1.00/\t{job_of(mol)}\tcopy\tof mol-0.96; its job is completed" in told.stdout
    assert "2 folders: 1 completed, 1 copy." in told.stdout
    (mol / "input.dat").write_text("r = 1.50\n")
    told = real(*batch("task-status", "--json"))
    first, second = json.loads(told.stdout)["folders"]
    assert (first["status"], first["jobstatus"]) == ("edited", "completed")
    assert first["reason"] == "input.dat changed; its job is completed"
    assert (second["status"], second["jobstatus"]) == ("copy", "completed")

    for folder, words in ((copy, "holds the job of ../mol-0.96"), (mol, "input.dat changed")):
        alone = real("task-status", cwd=folder)
        assert alone.returncode == 1
        assert alone.stdout.startswith("completed")
        assert words in alone.stderr


def test_a_copy_does_not_cancel_the_job_of_the_original(real, mol, queue):
    assert real("task-resubmit", cwd=mol).returncode == 0
    [copy] = series(mol, "1.00")

    def state():
        return queue.sql("SELECT state FROM jobs WHERE id = $1", job_of(mol))[0][0]

    for told in (
        real("task-cancel", cwd=copy),
        real("task-cancel", "mol-1.00"),
        real("task-cancel", "--batch", "mol-1*/"),
    ):
        assert told.returncode == 1
        assert "mol-0.96" in told.stderr
        assert state() == "received"
    assert real("task-cancel", cwd=mol).returncode == 0
    assert state() == "cancelled"


def test_a_resubmission_changes_only_the_given_options(real, mol, queue, store):
    """D3 and point 7."""
    last = job_of(mol)
    done = real(*batch("task-resubmit", "--memory", "8000", "--json"))
    assert done.returncode == 0, done.stderr
    [row] = queue.sql("SELECT memory_mb, cores FROM jobs WHERE id = $1", job_of(mol))
    assert tuple(row) == (8000, 1)
    assert not (mol / "output.dat").exists()
    assert (mol / "leruli.history" / last / "output.dat").read_text() == "energy -74.9\n"

    (mol / "leruli.folder").unlink()
    queue.sql("UPDATE jobs SET state = 'failed', ended_at = now() WHERE id = $1", job_of(mol))
    told = real("task-resubmit", cwd=mol)
    assert told.returncode == 1
    assert "Give CODE VERSION COMMAND" in told.stderr
    done = real("task-resubmit", *SUBMIT[1:], cwd=mol)
    assert done.returncode == 0, done.stderr
    assert "no record that tells results from input" in done.stderr
