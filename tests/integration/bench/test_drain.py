"""`python -m bench` with few jobs on one real node."""

from __future__ import annotations

from pathlib import Path

from bench_world import bench


def test_node(tmp_path: Path) -> None:
    done = bench(tmp_path, "--only", "node", "--node-jobs", "10")
    assert done.returncode == 0, done.stderr
    drains = [line for line in done.stdout.splitlines() if "| drain of `true` jobs" in line]
    assert len(drains) == 2
    assert all("docker run" in line for line in drains)
    for what in ("start of the next in its slot", "`running` in the API", "`completed` in the API"):
        assert what in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_short(tmp_path: Path) -> None:
    done = bench(tmp_path, "--only", "short", "--node-jobs", "36")
    assert done.returncode == 0, done.stderr
    for what in (
        "| `true` of one user in shared containers",
        "| `true` of one user in fresh containers",
        "start of the next in its slot, shared containers",
        "CPU of the node agent, a short job",
    ):
        assert what in done.stdout
    assert "xargs, bare processes" in done.stdout
    assert list(tmp_path.iterdir()) == []
