"""`python -m bench`, short: lists, statements and cancellation with many jobs."""

from __future__ import annotations

from pathlib import Path

from bench_world import bench


def test_lists_and_cancel(tmp_path: Path) -> None:
    measured = ("--only", "lists", "--only", "cancel")
    done = bench(tmp_path, *measured, "--crowd", "2000", "--calls", "10")
    assert done.returncode == 0, done.stderr
    assert "| task-list, a page of 100 at any depth, 2,000 jobs in the group, p95" in done.stdout
    assert "| bulk/task-status of 1,000, 20,000 jobs in the group, p95" in done.stdout
    assert "| cancel 1,000 waiting jobs" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_statements(tmp_path: Path) -> None:
    done = bench(tmp_path, "--only", "statements", "--crowd", "2000")
    assert done.returncode == 0, done.stderr
    for name in ("in_flight_by_resources", "reserve_nodes", "overdue_attempts"):
        assert f"| {name} with 2,000 in flight " in done.stdout
    assert list(tmp_path.iterdir()) == []
