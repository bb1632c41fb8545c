"""--watch of batch-status and task-status, with the real service and storage."""

from __future__ import annotations

import json
import threading
import time

import pytest
from batch_world import begin, ended, set_states, submitting
from terminal_world import on_terminal


@pytest.fixture
def few(real, tmp_path):
    """A batch of four folders with jobs."""
    folders = [tmp_path / f"case-{number}" for number in range(4)]
    for folder in folders:
        folder.mkdir()
        (folder / "input.dat").write_text(folder.name)
    assert real(*submitting(), "--name", "scan").returncode == 0
    return folders


def ended_lines(process):
    code, output, errors = ended(process)
    return code, output.splitlines(), errors.splitlines()


def counts_of(lines):
    return [line.partition(": 4 jobs: ")[2] for line in lines]


BOTH = [("batch-status", "scan"), ("task-status", "--batch", "case-*")]


@pytest.mark.parametrize("command", BOTH)
def test_away_from_a_terminal_each_change_is_a_line(real, queue, group, few, tmp_path, command):
    watching = begin(tmp_path, *command, "--watch")
    first = watching.stdout.readline()
    assert first.endswith("4 jobs: 4 received.\n")
    set_states(queue, group, "running", few[:2])
    second = watching.stdout.readline()
    set_states(queue, group, "failed", few[:1])
    time.sleep(3)
    set_states(queue, group, "completed", few[1:])
    code, lines, errors = ended_lines(watching)
    assert code == 10
    assert counts_of([second, lines[-1]]) == ["2 received, 2 running.\n", "3 completed, 1 failed."]
    # No line comes twice.
    assert len(set(lines)) == len(lines)
    [failure] = errors
    assert failure.startswith("Failed: case-0 (")
    assert failure.endswith("exit code 3")


@pytest.mark.parametrize("command", BOTH)
@pytest.mark.parametrize(("state", "code"), [("completed", 0), ("failed", 10), ("cancelled", 11)])
def test_the_exit_code_and_the_document_are_of_the_end(
    real, queue, group, few, command, state, code
):
    set_states(queue, group, "completed", few[1:])
    set_states(queue, group, state, few[:1])
    done = real(*command, "--watch", "--json")
    assert done.returncode == code, done.stderr
    document = json.loads(done.stdout)
    assert sum(document["counts"].values()) == 4
    assert document["counts"][state] == (4 if state == "completed" else 1)
    assert len(document["failures"]) == (state == "failed")
    quiet = real(*command, "--watch", "--quiet")
    assert (quiet.returncode, len(quiet.stdout.splitlines())) == (code, 1)


@pytest.mark.parametrize("command", BOTH)
def test_on_a_terminal_the_table_is_live(real, queue, group, few, tmp_path, command):
    def change():
        time.sleep(3)
        set_states(queue, group, "failed", few[:1])
        set_states(queue, group, "completed", few[1:])

    changing = threading.Thread(target=change)
    changing.start()
    shown = on_terminal(*command, "--watch", columns=80, cwd=tmp_path)
    changing.join()
    assert shown.returncode == 10
    shown.check_width(80)
    assert "received  " + "█" * 30 + " 4  100 %" in shown.text
    # Only the last table stays.
    left = "\n".join(shown.left)
    assert left.count("received") == 1
    assert "received  " + "░" * 30 + " 0    0 %" in left
    assert "failed    " + "█" * 8 + "░" * 22 + " 1   25 %" in left
    assert "case-0 (" in left
    # The cursor is shown again.
    assert shown.raw.rindex("\x1b[?25h") > shown.raw.rindex("\x1b[?25l")


def test_one_job_is_watched(queue, group, few, real):
    watching = begin(few[0], "task-status", "--watch")
    assert watching.stdout.readline().startswith("received")
    set_states(queue, group, "failed", few[:1])
    code, lines, errors = ended_lines(watching)
    assert (code, lines[-1], errors) == (10, "failed: exit code 3", [])
    done = real("task-status", "--watch", "--json", cwd=few[0])
    assert json.loads(done.stdout)["status"] == "failed"


def test_a_queue_that_restarts_is_asked_again(queue, group, few, tmp_path):
    watching = begin(tmp_path, "batch-status", "scan", "--watch", LERULI_RETRY_SECONDS="0")
    assert watching.stdout.readline().endswith("4 received.\n")
    queue.kill()
    time.sleep(3)
    queue.start()
    set_states(queue, group, "completed", few)
    code, lines, errors = ended_lines(watching)
    assert (code, counts_of(lines)) == (0, ["4 completed."])
    assert any(line.endswith("Asking again.") for line in errors)


def test_a_folder_without_a_job_is_a_problem(real, queue, group, few, tmp_path):
    (tmp_path / "case-9").mkdir()
    set_states(queue, group, "completed", few)
    done = real("task-status", "--batch", "case-*", "--watch")
    assert done.returncode == 1
    assert "Not watched: case-9: not submitted" in done.stderr
    assert real("task-status", "--watch", "--wide").returncode == 2
