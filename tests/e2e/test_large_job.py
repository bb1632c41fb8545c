"""A job that needs the whole machine beside many that need one core, on a real node."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e_world import StackOfTest, running_stack, wait_for

SETTINGS = {"LERULI_QUEUE_PLACE_PATIENCE_S": "3"}


@pytest.fixture
def own_stack() -> Iterator[StackOfTest]:
    """A stack for one test, where a job starves quickly."""
    with running_stack(SETTINGS) as made:
        yield made


def is_reserved(stack: StackOfTest) -> bool:
    """Return whether a node is reserved for a job."""
    return bool(stack.fetch("SELECT FROM nodes WHERE reserved_for IS NOT NULL"))


def test_a_large_job_begins_before_the_small_ones_are_over(
    own_stack: StackOfTest, tmp_path: Path
) -> None:
    """The first has one of two slots until the machine is reserved; the others run in turn."""
    small = [tmp_path / f"small-{number}" for number in range(40)]
    large = tmp_path / "large"
    for number, folder in enumerate([*small, large]):
        folder.mkdir()
        (folder / "seconds").write_text("1.5" if number else "25")
    command = ("leruli-test", "1", 'sleep "$(cat seconds)"')
    done = own_stack.leruli(
        tmp_path, "task-submit", "--memory", "500", "--batch", "small-*", *command
    )
    assert done.returncode == 0, done.stderr
    own_stack.wait_for_state(small[0], "running")
    own_stack.submit(large, "true", "--cores", "2")
    wait_for(
        lambda: is_reserved(own_stack),
        seconds=22,
        what="the machine is reserved",
    )
    assert own_stack.end(large) == ("completed", None)
    # Jobs that were unplaced in Nomad before the reservation go first; most jobs do not.
    assert own_stack.status(small[-1])[0] == "received"
    done = own_stack.leruli(tmp_path, "task-cancel", "--batch", "small-*", "--yes")
    assert done.returncode == 0, done.stderr
    for folder in small:
        own_stack.wait_for_state(folder, "completed", "cancelled")
    wait_for(lambda: not is_reserved(own_stack), seconds=10, what="the machine is not reserved")
