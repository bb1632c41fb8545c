"""Executors that a killed Nomad leaves, by their command lines; what runs under them is FAKE."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from leruli_node.executors import end_executors


@pytest.fixture
def started(tmp_path: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    processes: list[subprocess.Popen[bytes]] = []
    yield processes
    for process in processes:
        process.kill()
        process.wait()


def executor(folder: Path, started: list[subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
    """A process with the command line of an executor: `nomad executor {"LogFile": …}`."""
    (folder / "executor").write_text("import time\nprint('ready', flush=True)\ntime.sleep(60)\n")
    log_file = folder / "stage-in" / "executor.out"
    process = subprocess.Popen(
        ["nomad", "executor", json.dumps({"LogFile": str(log_file), "LogLevel": "debug"})],
        executable=sys.executable,
        cwd=folder,
        stdout=subprocess.PIPE,
    )
    started.append(process)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def test_what_nomad_forgot_is_killed_and_what_it_may_know_is_not(
    tmp_path: Path, started: list[subprocess.Popen[bytes]]
) -> None:
    ours, others = tmp_path / "ours", tmp_path / "others"
    for folder in (ours / "known", ours / "forgotten", others / "forgotten"):
        folder.mkdir(parents=True)
    known = executor(ours / "known", started)
    forgotten = executor(ours / "forgotten", started)
    another_nodes = executor(others / "forgotten", started)
    for folder in (ours, others):
        (folder / "forgotten").rename(folder / "collected")
    assert end_executors(ours, forgotten_only=True) == 1
    assert forgotten.wait(5) == -signal.SIGKILL
    assert (known.poll(), another_nodes.poll()) == (None, None)
    assert end_executors(ours, forgotten_only=False) == 1
    assert known.wait(5) == -signal.SIGKILL
    assert another_nodes.poll() is None
