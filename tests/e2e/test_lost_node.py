"""A machine that freezes with a job on it, and comes back when the job was given up."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e_world import GATED, StackOfTest, running_stack, wait_for

SETTINGS = {
    "LERULI_QUEUE_NODE_REPORT_S": "1",
    "LERULI_QUEUE_NODE_SILENCE_S": "5",
    "LERULI_QUEUE_RETRY_DELAY_S": "1",
    "LERULI_NODE_GRACE_SECONDS": "2",
}


@pytest.fixture
def own_stack() -> Iterator[StackOfTest]:
    """A stack for one test, whose node is quickly given up."""
    with running_stack(SETTINGS) as made:
        yield made


def processes_of(agent: int) -> list[int]:
    """The agent and the Nomad that it started."""
    found = subprocess.run(["pgrep", "-P", str(agent)], capture_output=True, text=True, check=True)
    return [agent, *(int(pid) for pid in found.stdout.split())]


def containers_of(job_id: str, number: int) -> list[str]:
    label = f"label=leruli.attempt={job_id}x{number}"
    listed = subprocess.run(
        ["docker", "ps", "-q", "--filter", label], capture_output=True, text=True, check=True
    )
    return listed.stdout.split()


def test_a_node_that_was_frozen_brings_nothing_of_what_was_given_up(
    own_stack: StackOfTest, folder: Path
) -> None:
    own_stack.submit(folder, f"echo $HOSTNAME > log; {GATED}; echo done >> log")
    own_stack.wait_for_state(folder, "running")
    job_id = (folder / "leruli.job").read_text().strip()
    [stale] = containers_of(job_id, 1)
    frozen = processes_of(own_stack.pid_of("node"))
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    try:
        # Nomad notices within 30 s, and then the node has 5 more to say something.
        reason = own_stack.wait_for_state(folder, "received", seconds=60)
        assert reason is not None
        assert reason.startswith("its node does not answer; it will run again")
        assert containers_of(job_id, 1) == [stale]  # the command does not know that it is alone
    finally:
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)
    wait_for(lambda: containers_of(job_id, 1) == [], seconds=30, what="the stale container ends")
    own_stack.wait_for_state(folder, "running")
    assert own_stack.end_gated(folder) == ("completed", None)
    attempts = own_stack.fetch(
        "SELECT number, outcome, upload_at FROM attempts WHERE job_id = $1::uuid ORDER BY number",
        job_id,
    )
    assert [(row["number"], row["outcome"]) for row in attempts] == [(1, None), (2, "ended")]
    assert attempts[0]["upload_at"] is None
    own_stack.get(folder)
    ran_in, done = (folder / "log").read_text().split()
    assert done == "done"
    assert not stale.startswith(ran_in)
