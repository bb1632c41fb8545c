"""`python -m bench.simulate`, short: real Nomad clients take jobs to their end."""

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
    """Build nodesim from the current sources, beside the interpreter.

    Building Nomad has already compiled all but 15 of its packages, so this takes half a minute once
    and downloads nothing. It takes minutes if an installed Nomad was found and none was built.
    """
    subprocess.run([ROOT / "setup" / "tools.sh", "nodesim"], check=True, timeout=900)


@pytest.mark.parametrize("old_agents", [False, True])
def test_short_jobs_share_slots_unless_the_agents_are_old(
    nodesim: None, tmp_path: Path, old_agents: bool
) -> None:
    result = tmp_path / "result.json"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "bench.simulate", "--nodes", "2", "--cores", "2"),
            *("--shapes", "one-core", "--jobs", "40", "--median", "0.3", "--groups", "1"),
            *("--slot-max", "60", "--limit", "120", "--json", str(result)),
            *(("--old-agents",) if old_agents else ()),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    outcome = json.loads(result.read_text())["outcome"]
    assert (outcome["jobs"], outcome["troubles"]) == (40, [])
    # Four slots: Nomad places at least one attempt in each.
    assert outcome["further"] == 0 if old_agents else 20 < outcome["further"] <= 36


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
    # Nodes and database recorded a claim, a start and a receipt of each job.
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
