"""A job that needs the whole machine beside many that need a core, on a real node."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e_world import StackOfTest, running_stack

SETTINGS = {"LERULI_QUEUE_PLACE_PATIENCE_S": "3"}


@pytest.fixture
def own_stack() -> Iterator[StackOfTest]:
    """A stack for one test, where a job starves quickly."""
    with running_stack(SETTINGS) as made:
        yield made


def test_a_large_job_begins_before_the_small_ones_are_over(
    own_stack: StackOfTest, tmp_path: Path
) -> None:
    """Of two slots one is always taken: both would not be free at once before the last of them."""
    small = [tmp_path / f"small-{number}" for number in range(60)]
    large = tmp_path / "large"
    for number, folder in enumerate([*small, large]):
        folder.mkdir()
        (folder / "seconds").write_text(f"{1.5 + number % 2}")
    command = ("leruli-test", "1", 'sleep "$(cat seconds)"')
    done = own_stack.leruli(
        tmp_path, "task-submit", "--memory", "500", "--batch", "small-*", *command
    )
    assert done.returncode == 0, done.stderr
    own_stack.wait_for_state(small[1], "running")
    own_stack.submit(large, "true", "--cores", "2")
    assert own_stack.end(large) == ("completed", None)
    # Some waited in Nomad before the machine was kept, and go first; by far not all.
    assert own_stack.status(small[-1])[0] == "received"
    done = own_stack.leruli(tmp_path, "task-cancel", "--batch", "small-*", "--yes")
    assert done.returncode == 0, done.stderr
    for folder in small:
        own_stack.wait_for_state(folder, "completed", "cancelled")
    kept = own_stack.fetch("SELECT id FROM nodes WHERE reserved_for IS NOT NULL")
    assert kept == []
