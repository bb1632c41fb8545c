"""A machine that freezes with a job on it, and returns before or after the job is abandoned."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from e2e_world import GATED, StackOfTest, another_node, running_stack, wait_for

SETTINGS = {
    "LERULI_QUEUE_NODE_REPORT_S": "1",
    "LERULI_QUEUE_NODE_SILENCE_S": "5",
    "LERULI_QUEUE_START_GRACE_S": "8",
    "LERULI_QUEUE_RETRY_DELAY_S": "1",
    "LERULI_NODE_GRACE_SECONDS": "2",
}


@pytest.fixture(scope="module")
def own_stack() -> Iterator[StackOfTest]:
    """A stack that quickly abandons attempts on silent nodes."""
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


@contextmanager
def frozen(stack: StackOfTest) -> Iterator[None]:
    """Freeze the stack's node inside the block; its containers run on."""
    processes = processes_of(stack.pid_of("node"))
    for pid in processes:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in processes:
            os.kill(pid, signal.SIGCONT)


def job_of(folder: Path) -> str:
    return (folder / "leruli.job").read_text().strip()


def attempts_of(stack: StackOfTest, folder: Path) -> list[tuple[int, str | None, bool]]:
    """Return number, outcome, and whether the upload lease was renewed, of each attempt.

    The first lease comes with the start grant, and is old when the command ends.
    """
    found = stack.fetch(
        "SELECT number, outcome, upload_at > started_at FROM attempts WHERE job_id = $1::uuid "
        "ORDER BY number",
        job_of(folder),
    )
    return [(row[0], row[1], row[2]) for row in found]


def wait_until_it_waits(stack: StackOfTest, folder: Path) -> None:
    """Wait until the job has waited for its node twice as long as the limit with other nodes."""

    def has_waited() -> bool:
        state, reason = stack.status(folder)
        assert state == "running", reason
        if not (reason or "").startswith("its node does not answer, and no other machine"):
            return False
        [found] = stack.fetch(
            "SELECT silent_since < now() - interval '10 s' AS long FROM attempts "
            "WHERE job_id = $1::uuid",
            job_of(folder),
        )
        return bool(found["long"])

    # Nomad notices within 30 s.
    wait_for(has_waited, seconds=90, what="it waits for its node")


def test_what_runs_on_the_only_node_goes_on_when_that_is_back(
    own_stack: StackOfTest, folder: Path
) -> None:
    """As after an outage of the network, in which no node of a group is heard."""
    own_stack.submit(folder, f"echo begun >> log; {GATED}; echo done >> log")
    own_stack.wait_for_state(folder, "running")
    with frozen(own_stack):
        wait_until_it_waits(own_stack, folder)
    wait_for(lambda: own_stack.status(folder) == ("running", None), seconds=60, what="it goes on")
    assert own_stack.end_gated(folder) == ("completed", None)
    assert attempts_of(own_stack, folder) == [(1, "ended", True)]
    own_stack.get(folder)
    assert (folder / "log").read_text() == "begun\ndone\n"


def test_a_job_does_not_stay_with_an_agent_that_hangs(own_stack: StackOfTest, folder: Path) -> None:
    """Its Nomad goes on, so the job is placed there."""
    agent = own_stack.pid_of("node")
    os.kill(agent, signal.SIGSTOP)
    try:
        own_stack.submit(folder, "true")
        wait_for(
            lambda: (
                own_stack.fetch(
                    "SELECT FROM attempts WHERE job_id = $1::uuid AND number = 1 "
                    "AND started_at IS NULL AND allocation_id IS NOT NULL "
                    "AND message = 'its node did not start it'",
                    job_of(folder),
                )
                != []
            ),
            seconds=60,
            what="the attempt is abandoned",
        )
    finally:
        os.kill(agent, signal.SIGCONT)
    assert own_stack.end(folder) == ("completed", None)
    [job] = own_stack.fetch(
        "SELECT attempt, lost_attempts FROM jobs WHERE id = $1::uuid", job_of(folder)
    )
    assert job["attempt"] > 1
    assert job["lost_attempts"] == 0


def test_a_frozen_node_uploads_nothing_of_an_abandoned_attempt(
    own_stack: StackOfTest, folder: Path
) -> None:
    own_stack.submit(folder, f"echo $HOSTNAME > log; {GATED}; echo done >> log")
    own_stack.wait_for_state(folder, "running")
    job_id = job_of(folder)
    [stale] = containers_of(job_id, 1)
    with ExitStack() as until_the_end:
        with frozen(own_stack):
            wait_until_it_waits(own_stack, folder)
            # A machine joins that can run it; the old one has 5 s more to say something.
            until_the_end.enter_context(another_node(own_stack, "second"))
            reason = own_stack.wait_for_state(folder, "received", seconds=60)
            assert reason is not None
            assert reason.startswith("its node does not answer; it will run again")
            own_stack.wait_for_state(folder, "running")
            # The command does not know that it is not alone.
            assert containers_of(job_id, 1) == [stale]
        wait_for(
            lambda: containers_of(job_id, 1) == [], seconds=30, what="the stale container ends"
        )
        assert own_stack.end_gated(folder, node="second") == ("completed", None)
    assert attempts_of(own_stack, folder) == [(1, None, False), (2, "ended", True)]
    own_stack.get(folder)
    ran_in, done = (folder / "log").read_text().split()
    assert done == "done"
    assert not stale.startswith(ran_in)
