"""`python -m bench`, for a moment: that it measures, says what, and leaves nothing behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def _bench(data: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *(sys.executable, "-m", "bench", "--repeat", "1", "--no-peers", "--no-write"),
            *("--data", str(data), *arguments),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def test_intake(tmp_path: Path) -> None:
    done = _bench(tmp_path, "--only", "intake", "--jobs", "1000", "--workers", "1")
    assert done.returncode == 0, done.stderr
    assert "load average before" in done.stdout
    for what in ("50 jobs a post", "1,000 jobs a post", "single task-submit"):
        assert f"| intake, {what}, 8 connections" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_lists_and_cancel(tmp_path: Path) -> None:
    done = _bench(tmp_path, "--only", "lists", "--only", "cancel", "--crowd", "2000")
    assert done.returncode == 0, done.stderr
    assert "| task-list, a page of 100 at any depth, 2,000 jobs in the group, p95" in done.stdout
    assert "| bulk/task-status of 1,000, 20,000 jobs in the group, p95" in done.stdout
    assert "| cancel 1,000 waiting jobs" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_memory(tmp_path: Path) -> None:
    done = _bench(tmp_path, "--only", "memory", "--crowd", "1000")
    assert done.returncode == 0, done.stderr
    assert "| memory with 1,000 jobs waiting" in done.stdout
    assert "| memory with 10,000 jobs waiting" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_batch(tmp_path: Path) -> None:
    done = _bench(tmp_path, "--only", "batch", "--folders", "120")
    assert done.returncode == 0, done.stderr
    assert "| task-submit --batch of 120 folders of 3 small files " in done.stdout
    assert "3 small files: CPU of the client" in done.stdout
    assert "3 small files: CPU of S3" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_node(tmp_path: Path) -> None:
    done = _bench(tmp_path, "--only", "node", "--node-jobs", "10")
    assert done.returncode == 0, done.stderr
    drains = [line for line in done.stdout.splitlines() if "| drain of `true` jobs" in line]
    assert len(drains) == 2
    assert all("docker run" in line for line in drains)
    for what in ("start of the next in its slot", "`running` in the API", "`completed` in the API"):
        assert what in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_looks(tmp_path: Path) -> None:
    done = _bench(tmp_path, "--only", "looks", "--crowd", "2000")
    assert done.returncode == 0, done.stderr
    for name in ("in_flight_by_shape", "reserve_nodes", "overdue_attempts"):
        assert f"| {name} with 2,000 in flight " in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_churn(tmp_path: Path) -> None:
    done = _bench(tmp_path, "--only", "churn", "--crowd", "1000")
    assert done.returncode == 0, done.stderr
    after = "after 9,600 changes of state"
    [size] = [line for line in done.stdout.splitlines() if "| the same rows packed" in line]
    assert size.startswith(f"| jobs and attempts with indexes {after} ")
    assert " MB " in size
    assert f"| dead rows {after}, of all " in done.stdout
    assert f"| pace of the last tenth {after}, against the first " in done.stdout
    assert "; autovacuum_naptime 5s; " in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_what_takes_too_long_is_said_and_ended(tmp_path: Path) -> None:
    done = _bench(tmp_path, "--only", "intake", "--limit", "1")
    assert done.returncode == 1
    assert "not measured: intake: TimeoutError: it took longer than 1 s (--limit)" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_measurement_is_refused(tmp_path: Path) -> None:
    done = _bench(tmp_path, "--only", "weather")
    assert done.returncode == 2
    assert "There is no measurement weather; there are intake" in done.stderr
