"""The client 22.1.6 from PyPI, unchanged, in its own virtual environment.

It has a known flaw: a successful single submit exits with 1, because it does not return the id.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from e2e_world import StackOfTest

from bench import pinned


@pytest.fixture(scope="session")
def published_client() -> Path:
    """Return the path of its command, installed once into a cache by its pins."""
    return pinned.published_client()


def test_submit_status_get_prune(stack: StackOfTest, folder: Path, published_client: Path) -> None:
    def leruli(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [published_client, *arguments],
            cwd=folder,
            env=stack.user,
            capture_output=True,
            text=True,
        )

    assert "leruli-test:1" in leruli("task-list-codes").stdout.split()
    (folder / "input.dat").write_text("42")
    submitted = leruli("task-submit", "leruli-test", "1", "cat", "input.dat")
    assert submitted.returncode == 1  # its flaw
    assert "Traceback" not in submitted.stderr
    assert (folder / "leruli.job").read_text().strip()
    assert stack.end(folder) == ("completed", None)
    assert leruli("task-status").stdout == "completed\n"
    assert leruli("task-cancel").stdout == "completed: the job has completed already\n"
    leruli("task-get")
    assert (folder / "joblog.txt").read_text() == "42"
    assert leruli("task-prune").returncode == 0
    assert stack.leruli(folder, "task-get").returncode != 0


def test_its_batch_is_accepted(stack: StackOfTest, tmp_path: Path, published_client: Path) -> None:
    folders = [tmp_path / f"case-{n}" for n in range(3)]
    for folder in folders:
        folder.mkdir()
    subprocess.run(
        [published_client, "task-submit", "--batch", "case-*", "leruli-test", "1", "true"],
        cwd=tmp_path,
        env=stack.user,
        capture_output=True,
        timeout=120,
    )
    for folder in folders:
        assert stack.end(folder) == ("completed", None)
