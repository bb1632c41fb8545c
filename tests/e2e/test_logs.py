"""Following a job's output on a real stack, as a user does."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from canaries import database_of, logs_of
from e2e_world import BIN, GATED, StackOfTest, wait_for


@contextmanager
def following(stack: StackOfTest, folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Run `leruli task-logs -f`; yield its process and the file that gets its output."""
    shown = folder.parent / "shown"
    with shown.open("wb") as output:
        process = subprocess.Popen(
            ["leruli", "task-logs", "-f"],
            cwd=folder,
            env=stack.user,
            executable=BIN / "leruli",
            stdout=output,
        )
    try:
        yield process, shown
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("option", ["--time=2", "--share-container"])
def test_output_is_shown_while_the_job_runs(stack: StackOfTest, folder: Path, option: str) -> None:
    first = f"canary{secrets.token_hex(8)}"
    (folder / "input.txt").write_text(f"{first}\n")
    stack.submit(folder, f"cat input.txt; {GATED}; echo last; exit 3", option)
    with following(stack, folder) as (process, shown):
        wait_for(
            lambda: shown.read_text() == f"{first}\n", seconds=90, what="the first line is shown"
        )
        assert stack.status(folder)[0] == "running"
        assert stack.end_gated(folder)[0] == "failed"
        assert process.wait(timeout=60) == 10
    assert shown.read_text() == f"{first}\nlast\n"
    # Nothing of it is left in the bucket, and the service has seen nothing of it.
    stack.get(folder)
    assert (folder / "joblog.txt").read_text() == f"{first}\nlast\n"
    assert not (folder / ".leruli").exists()
    seen = logs_of(stack) | database_of(stack)
    assert [where for where, text in seen.items() if first in text] == []
