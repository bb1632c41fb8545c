"""Batches of the service: task-submit --batch makes one; batch-list, -status, -get, -cancel."""

from __future__ import annotations

import json
import os

import pytest
from batch_world import set_states, submitting
from terminal_world import on_terminal


@pytest.fixture
def scan(tmp_path):
    """A folder "scan" with five folders of a batch, and an empty one beside it."""
    for number in range(5):
        folder = tmp_path / "scan" / f"case-{number}"
        folder.mkdir(parents=True)
        (folder / "input.dat").write_text(f"{number}\n")
    (tmp_path / "elsewhere").mkdir()
    return tmp_path / "scan"


def submit(real, scan, *more):
    done = real(*submitting()[:3], *more, *submitting()[3:], "--json", cwd=scan)
    assert done.returncode in (0, 1), done.stderr
    return json.loads(done.stdout)["batch"]


def status(real, *arguments, cwd):
    done = real("batch-status", *arguments, "--json", cwd=cwd)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_same_command_adds_to_the_same_batch(real, scan):
    batch = submit(real, scan)
    assert batch["name"] == "scan"
    (scan / "case-5").mkdir()
    (scan / "case-5" / "input.dat").write_text("5\n")
    assert submit(real, scan) == batch
    assert status(real, cwd=scan)["jobs"] == 6
    # Another name begins another batch, and the folders that have jobs stay where they are.
    (scan / "case-6").mkdir()
    (scan / "case-6" / "input.dat").write_text("6\n")
    other = submit(real, scan, "--name", "second scan")
    assert other["batchid"] != batch["batchid"]
    assert submit(real, scan) == other
    found = status(real, "second scan", cwd=scan)
    assert (found["jobs"], found["batchid"]) == (1, other["batchid"])
    listed = real("batch-list", "--json", cwd=scan)
    assert [one["name"] for one in json.loads(listed.stdout)["batches"]] == ["second scan", "scan"]


def test_a_name_is_for_batches_and_has_no_secret(real, scan, group):
    for name in ("", "a\nb", group.user_secret, "x" * 201):
        done = real(*submitting(), "--name", name, cwd=scan)
        assert done.returncode == 2
        assert group.user_secret not in done.stderr
    one = real("task-submit", "--name", "scan", "psi4", "1.5", "psi4", cwd=scan / "case-0")
    assert one.returncode == 2


def test_how_far_a_batch_is(real, scan, queue, group):
    batch = submit(real, scan)
    folders = sorted(scan.glob("case-*"))
    set_states(queue, group, "running", folders[:4])
    set_states(queue, group, "failed", folders[:1])
    set_states(queue, group, "completed", folders[1:3])
    for named in ([], ["scan"], [batch["batchid"]], [batch["batchid"][:8]]):
        shown = real("batch-status", *named, cwd=scan / "case-0")
        assert shown.returncode == 0, shown.stderr
        first, pace, title, failure = shown.stdout.splitlines()
        counts = "1 received, 1 running, 2 completed, 1 failed"
        assert first == f"scan ({batch['batchid'][:8]}): 5 jobs: {counts}."
        assert "jobs a minute; about " in pace
        assert title == "Last failures:"
        assert failure.startswith("  case-0 (")
        assert failure.endswith(" ago: exit code 3")
    quiet = real("batch-status", "--quiet", cwd=scan)
    assert quiet.stdout.splitlines() == [first]
    listed = real("batch-list", cwd=scan)
    titles, line = (line.split("\t") for line in listed.stdout.splitlines())
    entry = dict(zip(titles, line, strict=True))
    assert (entry["batch"], entry["jobs"], entry["failed"]) == (batch["batchid"], "5", "1")
    terminal = on_terminal("batch-list", columns=80, cwd=scan)
    assert len(terminal.lines) == 2
    assert batch["batchid"][:8] in terminal.lines[1]
    assert "1 received, 1 running" in terminal.lines[1]


def test_what_names_no_batch_or_several(real, scan, tmp_path):
    for path, arguments in ((tmp_path / "elsewhere", []), (scan, ["nothing"]), (scan, ["abc"])):
        done = real("batch-status", *arguments, cwd=path)
        assert done.returncode == 4
        assert "leruli batch-list" in done.stderr
    first = submit(real, scan)
    next(scan.glob("leruli.batch-*")).unlink()
    for folder in scan.glob("case-*"):
        for name in ("leruli.job", "leruli.bucket", "leruli.folder"):
            (folder / name).unlink()
    second = submit(real, scan)
    done = real("batch-status", "scan", cwd=scan)
    assert done.returncode == 1
    assert first["batchid"] in done.stderr
    assert second["batchid"] in done.stderr


def test_results_are_fetched_from_any_folder_of_the_tree(real, scan, queue, group, store, tmp_path):
    batch = submit(real, scan)
    folders = sorted(scan.glob("case-*"))
    set_states(queue, group, "completed", folders[:4])
    for folder in folders:
        bucket = (folder / "leruli.bucket").read_text().strip()
        store.put(bucket, "out.txt", folder.name.encode())
    done = real("batch-get", cwd=scan / "case-3")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Fetched 4 completed (4 files")
    assert "skipped 1 (1 received)" in done.stdout
    assert [(folder / "out.txt").read_text() for folder in folders[:4]] == [
        folder.name for folder in folders[:4]
    ]
    assert not (folders[4] / "out.txt").exists()
    set_states(queue, group, "completed", folders[4:])
    done = real("batch-get", "scan", cwd=tmp_path)
    assert done.stdout.startswith("Fetched 1 completed"), done.stderr
    assert "4 fetched before" in done.stdout
    # The tree may be moved as a whole.
    os.rename(scan, tmp_path / "moved")  # noqa: PTH104
    done = real("batch-get", batch["batchid"], "--again", cwd=tmp_path / "moved")
    assert done.returncode == 0, done.stderr
    # Two levels above the journal is near enough, a folder beside it is not.
    assert real("batch-get", "scan", cwd=tmp_path.parent).returncode == 0
    done = real("batch-get", "scan", cwd=tmp_path / "elsewhere")
    assert done.returncode == 4
    assert "go to the tree" in done.stderr


def test_a_batch_is_cancelled(real, scan, queue, group):
    submit(real, scan)
    folders = sorted(scan.glob("case-*"))
    set_states(queue, group, "completed", folders[:1])
    asked = real("batch-cancel", cwd=scan)
    assert asked.returncode == 2
    assert "--yes" in asked.stderr
    done = real("batch-cancel", "--yes", cwd=scan)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "Cancelled 4 jobs.\n"
    again = json.loads(real("batch-cancel", "--yes", "--json", cwd=scan).stdout)
    assert (again["cancelled"], again["stopping"]) == (0, 0)
    assert status(real, cwd=scan)["counts"]["cancelled"] == 4
