"""task-purge at the real service and storage: one rule for a folder and for a batch."""

from __future__ import annotations

import json
import shutil
import uuid

import pytest
from folder_world import INPUT, make_folder, submit_folder


@pytest.fixture
def folder(real, queue, store, tmp_path):
    """A folder that was submitted; see folder_world."""
    path = tmp_path / "mol-0.96"
    make_folder(path)
    return submit_folder(real, queue, store, path)


@pytest.fixture(params=["one", "batch"])
def purge(request, real, folder):
    """Purge a folder, by itself or in a batch; returns whether the bucket is there, and the text.

    Also asserts the exit code.
    """

    def run(*options, code, path=folder.path):
        batch = ("--batch", path.name) if request.param == "batch" else ()
        cwd = path.parent if batch else path
        done = real("task-purge", *batch, *options, cwd=cwd)
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    run.is_batch = request.param == "batch"
    return run


def test_results_that_were_not_fetched_stay(purge, folder):
    """D5: results of one folder were deleted without a question, those of a batch were skipped."""
    folder.ends(input_dat=INPUT, output_dat=b"E\n")
    assert "fetch" in purge(code=0 if purge.is_batch else 1).lower()
    assert folder.store.has_bucket(folder.bucket)
    purge("--force", code=0)


def test_a_failed_jobs_unfetched_results_are_purged(purge, folder):
    folder.ends("failed", "exit code 1", input_dat=INPUT, output_dat=b"E\n")
    bucket = folder.bucket
    purge(code=0)
    assert not folder.store.has_bucket(bucket)


def test_a_result_beside_counts_as_fetched(purge, real, folder):
    bucket = folder.bucket
    folder.ends(output_dat=b"E\n")
    (folder.path / "output.dat").write_text("mine")
    assert real("task-get", cwd=folder.path).returncode == 1
    purge(code=0)
    assert not folder.store.has_bucket(bucket)
    assert folder.read("output.dat") == "mine"


def test_an_edited_folder_keeps_the_submitted_input(purge, real, folder):
    folder.ends(output_dat=b"E\n")
    bucket = folder.bucket
    (folder.path / "input.dat").write_text("r = 1.00\n")
    assert real("task-get", cwd=folder.path).returncode == 1
    assert "task-get --with-input" in purge(code=1)
    assert folder.store.has_bucket(bucket)

    done = real("task-get", "--with-input", cwd=folder.path)

    assert done.returncode == 1
    assert folder.read("input.dat") == "r = 1.00\n"
    assert folder.beside("input.dat").read_bytes() == INPUT
    assert "The submitted one is beside it" in done.stderr
    purge(code=0)
    assert not folder.store.has_bucket(bucket)


@pytest.mark.parametrize("force", [(), ("--force",)])
def test_a_copy_never_purges(purge, real, folder, force):
    """D1: task-purge in a copy deleted the original's only bucket."""
    folder.ends(output_dat=b"E\n")
    assert real("task-get", cwd=folder.path).returncode == 0
    copy = folder.path.with_name("mol-1.00")
    shutil.copytree(folder.path, copy, symlinks=True)
    assert "holds the job of" in purge(*force, code=1, path=copy)
    assert folder.store.has_bucket(folder.bucket)


@pytest.mark.parametrize("kind", ["id", "short id", "name", "option"])
def test_one_word_names_the_job(real, folder, tmp_path, kind):
    """Results may be in any folder. If they are not here, nothing shows that they were fetched."""
    folder.ends(output_dat=b"E\n")
    bucket, job = folder.bucket, folder.job
    named = {
        "id": (job,),
        "short id": (job[-8:],),
        "name": (folder.path.name,),
        "option": ("--job", job[-8:]),
    }[kind]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    refused = real("task-purge", *named, cwd=elsewhere)
    assert refused.returncode == 1
    assert f"`leruli task-get {job}`" in refused.stderr
    assert folder.store.has_bucket(bucket)
    assert real("task-get", job, cwd=elsewhere).returncode == 0
    assert real("task-purge", *named, cwd=elsewhere).returncode == 0
    assert not folder.store.has_bucket(bucket)
    assert real("task-purge", "no such job", cwd=elsewhere).returncode == 4


def test_a_folder_that_is_named(real, folder):
    """The folder is compared with the results, as if the command ran in it."""
    folder.ends(output_dat=b"E\n")
    name, bucket, parent = folder.path.name, folder.bucket, folder.path.parent
    (parent / "output.dat").write_bytes(b"E\n")
    refused = real("task-purge", name, cwd=parent)
    assert refused.returncode == 1
    assert f"its results are not in {name}" in refused.stderr
    assert real("task-get", cwd=folder.path).returncode == 0
    shutil.copytree(folder.path, parent / "mol-1.00", symlinks=True)
    for options in ((), ("--force",), ("--job",)):
        copy = real("task-purge", *options, "mol-1.00", cwd=parent)
        assert (copy.returncode, "holds the job of" in copy.stderr) == (1, True)
    assert folder.store.has_bucket(bucket)
    assert real("task-purge", f"{name}/", cwd=parent).returncode == 0
    assert not folder.store.has_bucket(bucket)
    assert not (folder.path / "leruli.bucket").exists()


def test_naming_the_job_in_its_own_folder_changes_no_rule(real, folder):
    folder.ends(output_dat=b"E\n")
    (folder.path / "input.dat").write_text("r = 1.00\n")
    assert real("task-get", cwd=folder.path).returncode == 1
    for named in ((), (folder.job,), ("--job", folder.job), (folder.job, folder.bucket)):
        refused = real("task-purge", *named, cwd=folder.path)
        assert refused.returncode == 1
        assert "task-get --with-input" in refused.stderr
    assert folder.store.has_bucket(folder.bucket)


def test_a_bucket_that_is_named(real, folder, tmp_path):
    folder.ends(output_dat=b"E\n")
    bucket = folder.bucket
    other = str(uuid.uuid4())
    folder.store.make_bucket(other)
    wrong = real("task-purge", folder.job, other)
    assert wrong.returncode == 1
    assert "is not the one of job" in wrong.stderr
    assert folder.store.has_bucket(other)
    assert real("task-purge", folder.job, bucket, cwd=tmp_path).returncode == 1
    assert folder.store.has_bucket(bucket)
    assert real("task-get", "--job", folder.job, cwd=tmp_path).returncode == 0
    assert real("task-purge", folder.job, bucket, cwd=tmp_path).returncode == 0
    assert not folder.store.has_bucket(bucket)


def test_copies_without_a_record_are_not_purged(real, folder):
    """Folders of the published client have no record."""
    folder.ends("failed", "exit code 1")
    (folder.path / "leruli.folder").unlink()
    shutil.copytree(folder.path, folder.path.with_name("mol-1.00"), symlinks=True)
    document = json.loads(real("task-purge", "--batch", "mol-*", "--json").stdout)
    assert sorted(document["failed"]) == ["mol-0.96", "mol-1.00"]
    assert folder.store.has_bucket(folder.bucket)
