"""`python -m bench`, short: memory and disk that many jobs take."""

from __future__ import annotations

from pathlib import Path

from bench_world import bench


def test_memory(tmp_path: Path) -> None:
    done = bench(tmp_path, "--only", "memory", "--crowd", "1000", "--settle", "2")
    assert done.returncode == 0, done.stderr
    assert "| memory with 1,000 jobs waiting" in done.stdout
    assert "| memory with 10,000 jobs waiting" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_churn(tmp_path: Path) -> None:
    done = bench(tmp_path, "--only", "churn", "--crowd", "1000")
    assert done.returncode == 0, done.stderr
    after = "after 9,600 changes of state"
    [size] = [line for line in done.stdout.splitlines() if "| the same rows packed" in line]
    assert size.startswith(f"| jobs and attempts with indexes {after} ")
    assert " MB " in size
    assert f"| dead rows {after}, of all " in done.stdout
    assert f"| pace of the last tenth {after}, against the first " in done.stdout
    assert "; autovacuum_naptime 5s; " in done.stdout
    assert list(tmp_path.iterdir()) == []
