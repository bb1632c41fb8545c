"""`python -m bench.simulate`, for a moment: real Nomad clients take jobs to their end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
JOBS = 12
STAGE_IN_S = 0.2
CONTAINER_START_S = 0.4


@pytest.fixture(scope="session")
def nodesim() -> None:
    """Beside the interpreter, of the sources as they are.

    All but 15 packages of it were compiled for Nomad already: half a minute once, and nothing to
    download. Only where a nomad was found, and none built, it takes minutes.
    """
    subprocess.run([ROOT / "setup" / "tools.sh", "nodesim"], check=True, timeout=900)


def test_jobs_on_simulated_nodes_end(nodesim: None, tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "bench.simulate", "--nodes", "3", "--cores", "2"),
            *("--shapes", "one-core", "--jobs", str(JOBS), "--median", "1", "--failing", "0.2"),
            *("--stage-in", str(STAGE_IN_S), "--container-start", str(CONTAINER_START_S)),
            *("--limit", "120", "--json", str(result)),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"{JOBS} jobs on 3 nodes, 6 cores" in done.stdout
    outcome = json.loads(result.read_text())["outcome"]
    assert (outcome["jobs"], outcome["troubles"]) == (JOBS, [])
    # Of each job a claim, a start and a receipt was seen, on the nodes and in the database.
    for step in (
        "claimed to dispatched",
        "dispatched to on a node",
        "end of the command to receipt",
    ):
        assert outcome["lags"][step]["count"] == JOBS, step
    before_the_command = outcome["lags"]["leave to start to running"]["median"]
    assert before_the_command >= STAGE_IN_S + CONTAINER_START_S
    parts = {"service", "dispatcher", "PostgreSQL", "Nomad server", "nodes"}
    assert outcome["cpu_ms"].keys() == parts
    assert min(outcome["cpu_ms"].values()) > 0
