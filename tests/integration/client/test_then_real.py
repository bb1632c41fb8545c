"""--then: a command of the user's that runs when the waiting has ended."""

from __future__ import annotations

import json

import pytest
from batch_world import later, set_states

SAY = (
    'echo "$LERULI_WAIT_OUTCOME $LERULI_WAIT_JOBS $LERULI_WAIT_COMPLETED $LERULI_WAIT_FAILED '
    '$LERULI_WAIT_CANCELLED $LERULI_WAIT_NOT_OVER" > said'
)
BATCH = ("task-wait", "--batch", "case-*")


@pytest.mark.parametrize(
    ("states", "more", "code", "said"),
    [
        (["completed"] * 3, (), 0, "completed 3 3 0 0 0"),
        (["completed", "failed", "cancelled"], (), 10, "failed 3 1 1 1 0"),
        (["completed", "completed", "cancelled"], (), 11, "cancelled 3 2 0 1 0"),
        (["completed", "running", "running"], ("--timeout", "0"), 12, "timeout 3 1 0 0 2"),
        (["completed", "running", "running"], ("--any",), 0, "completed 3 1 0 0 2"),
    ],
)
def test_the_command_is_told_how_the_waiting_ended(
    real, queue, group, few, tmp_path, states, more, code, said
):
    for folder, state in zip(few, states, strict=True):
        set_states(queue, group, state, [folder])
    done = real(*BATCH, *more, "--then", SAY)
    assert done.returncode == code, done.stderr
    assert (tmp_path / "said").read_text() == f"{said}\n"


def test_a_folder_without_a_job_makes_the_outcome_unknown(real, queue, group, few, tmp_path):
    set_states(queue, group, "completed", few)
    (tmp_path / "case-new").mkdir()
    done = real(*BATCH, "--then", SAY)
    assert done.returncode == 1
    assert (tmp_path / "said").read_text() == "unknown 3 3 0 0 0\n"


@pytest.mark.parametrize(("state", "code"), [("completed", 1), ("failed", 10)])
def test_a_command_that_fails_changes_no_exit_code_but_0(real, queue, group, few, state, code):
    set_states(queue, group, state, few)
    done = real(*BATCH, "--then", "exit 7")
    assert done.returncode == code
    assert "The command of --then ended with exit code 7." in done.stderr


def test_with_json_the_document_is_alone_on_standard_output(real, queue, group, few):
    set_states(queue, group, "completed", few)
    plain = real(*BATCH, "--then", "echo loud")
    assert "loud" in plain.stdout.splitlines()
    done = real(*BATCH, "--json", "--then", "echo loud")
    assert done.returncode == 0
    assert len(json.loads(done.stdout)["jobs"]) == 3
    assert "loud" in done.stderr


def test_after_a_submission(real, queue, group, water):
    later(1.0, queue, group, "completed", [water])
    submit = ("task-submit", "--wait", "--then", SAY, "psi4", "1.5", "psi4", "input.dat")
    done = real(*submit, cwd=water)
    assert done.returncode == 0, done.stderr
    assert (water / "said").read_text() == "completed 1 1 0 0 0\n"


def test_it_runs_only_after_a_wait(real, water, tmp_path):
    done = real("task-submit", "--then", SAY, "psi4", "1.5", "psi4", "input.dat", cwd=water)
    assert done.returncode == 2
    assert "--then goes with --wait" in done.stderr
    assert not list(water.glob("leruli.*"))
    # Nothing to wait for: an error.
    done = real("task-wait", "--then", SAY)
    assert done.returncode == 4
    assert not (tmp_path / "said").exists()
