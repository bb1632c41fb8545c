"""`python -m bench`, short: waiting for jobs and cancelling them."""

from __future__ import annotations

from pathlib import Path

from bench_world import bench


def test_follow(tmp_path: Path) -> None:
    done = bench(tmp_path, "--only", "follow", "--calls", "10", "--folders", "200", "--settle", "1")
    assert done.returncode == 0, done.stderr
    assert "| end of a job in the database to the end of `leruli task-wait`, p95 " in done.stdout
    assert "| 200 jobs awaited by one client: calls in 10 s " in done.stdout
    [cancelled] = [line for line in done.stdout.splitlines() if "| task-cancel to TERM" in line]
    assert 0 < float(cancelled.split("|")[2].split()[0]) < 30
    assert list(tmp_path.iterdir()) == []
