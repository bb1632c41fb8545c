"""`python -m bench`, short: rates of submits, and measurements that fail."""

from __future__ import annotations

from pathlib import Path

from bench_world import bench


def test_intake(tmp_path: Path) -> None:
    done = bench(tmp_path, "--only", "intake", "--jobs", "1000", "--workers", "1")
    assert done.returncode == 0, done.stderr
    assert "load average before" in done.stdout
    for what in ("50 jobs a post", "1,000 jobs a post", "single task-submit"):
        assert f"| intake, {what}, 8 connections" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_batch(tmp_path: Path) -> None:
    done = bench(tmp_path, "--only", "batch", "--folders", "120")
    assert done.returncode == 0, done.stderr
    assert "| task-submit --batch of 120 folders of 3 small files " in done.stdout
    assert "3 small files: CPU of the client" in done.stdout
    assert "3 small files: CPU of S3" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_measurement_beyond_its_timeout_is_ended_and_reported(tmp_path: Path) -> None:
    done = bench(tmp_path, "--only", "intake", "--limit", "1")
    assert done.returncode == 1
    assert "not measured: intake: TimeoutError: It took longer than 1 s (--limit)." in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_measurement_is_refused(tmp_path: Path) -> None:
    done = bench(tmp_path, "--only", "weather")
    assert done.returncode == 2
    assert "There is no measurement weather. Choose from: intake" in done.stderr
