"""Several patterns over the same folders share their records, at the real service."""

from __future__ import annotations

import json

import pytest
from batch_world import set_states, submitting


@pytest.fixture
def folders(real, queue, group, store, tmp_path):
    """Three folders that one pattern submitted, with results of jobs that are over."""
    found = [tmp_path / name / "run1" for name in ("a", "b", "c")]
    for folder in found:
        folder.mkdir(parents=True)
        (folder / "input.dat").write_text(f"{folder}\n")
    done = real(*submitting(pattern="*/run1"))
    assert done.returncode == 0, done.stderr
    set_states(queue, group, "completed", found)
    for folder in found:
        store.put((folder / "leruli.bucket").read_text().strip(), "output.dat", b"E\n")
    return found


def fetch(real, pattern, **where):
    done = real("task-get", "--batch", pattern, "--json", **where)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    return document["fetched"], document["skipped"]


def test_results_that_another_pattern_fetched_are_not_fetched_again(real, folders, tmp_path):
    assert fetch(real, "a/*") == (["a/run1"], {})
    assert real("task-get", cwd=folders[1]).returncode == 0
    before = {"a/run1/": "fetched before", "b/run1/": "fetched before"}
    assert fetch(real, "**/run1/") == (["c/run1/"], before)
    assert fetch(real, "*/run1")[0] == []
    for folder in folders:
        assert (folder / "output.dat").read_bytes() == b"E\n"


def test_results_fetched_during_the_job_are_fetched_again_after_it(real, folders, queue, group):
    set_states(queue, group, "running", folders[:1])
    assert real("task-get", cwd=folders[0]).returncode == 0
    set_states(queue, group, "completed", folders[:1])
    assert "a/run1/" in fetch(real, "**/run1/")[0]


def test_files_lost_in_a_crash_are_restored_from_another_patterns_journal(
    real, folders, queue, group, tmp_path
):
    """A crash may leave the files of a folder empty. The journals are on the disk by then."""
    job = (folders[0] / "leruli.job").read_text()
    for name in ("leruli.job", "leruli.bucket", "leruli.folder"):
        (folders[0] / name).write_text("")
    states = json.loads(real("task-status", "--batch", "**/run1/", "--json").stdout)
    assert states["counts"] == {"completed": 3}
    (tmp_path / "list.txt").write_text("a/run1\nb/run1\nc/run1\n")
    done = real(*submitting(pattern="list.txt"))
    assert done.returncode == 0, done.stderr
    assert "3 skipped: submitted before" in done.stdout
    assert (folders[0] / "leruli.job").read_text() == job
    [jobs] = queue.sql("SELECT count(*) FROM jobs WHERE group_id = $1", group.id)
    assert jobs["count"] == 3
