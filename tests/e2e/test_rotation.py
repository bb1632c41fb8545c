"""The compute secret is rotated while a job runs: the job ends, the node goes, and joins again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e_world import GATED, StackOfTest, read_exports, running_stack, wait_for


@pytest.fixture
def own_stack() -> Iterator[StackOfTest]:
    """A stack for one test, which sends its node away."""
    with running_stack({"LERULI_QUEUE_NODE_REPORT_S": "1"}) as made:
        yield made


def node_in_nomad(stack: StackOfTest) -> tuple[str, str]:
    [node] = stack.nomad("/v1/nodes")
    return node["ID"], node["SchedulingEligibility"]


def test_what_runs_ends_and_what_waits_runs_after_the_node_has_the_new_secret(
    own_stack: StackOfTest, tmp_path: Path
) -> None:
    running, waiting = tmp_path / "running", tmp_path / "waiting"
    for folder in (running, waiting):
        folder.mkdir()
    own_stack.submit(running, f"{GATED}; echo done > log")
    own_stack.wait_for_state(running, "running")
    admin = read_exports(own_stack.data / "admin.sh")["LERULI_ADMIN_SECRET"]
    assert own_stack.call("group-rotate-compute-secret", adminsecret=admin).status_code == 200
    own_stack.submit(waiting, "echo ran > log")

    wait_for(
        lambda: node_in_nomad(own_stack)[1] == "ineligible",
        seconds=10,
        what="the node is ineligible in Nomad",
    )
    assert own_stack.status(running)[0] == "running"
    [shown] = own_stack.call("group-nodes", adminsecret=admin).json()["nodes"]
    assert (shown["eligible"], shown["needsnewsecret"], shown["jobs"]) == (False, True, 1)
    assert own_stack.end_gated(running) == ("completed", None)
    own_stack.get(running)
    assert (running / "log").read_text() == "done\n"

    log = own_stack.data / "logs" / "node.log"
    wait_for(
        lambda: "the service gives this node no jobs" in log.read_text(),
        seconds=60,
        what="the agent ends with a sentence",
    )
    assert own_stack.status(waiting)[0] == "received"
    before = json.loads((own_stack.data / "node" / "node.json").read_text())["nodeid"]

    # The next start of the stack has the new secret.
    own_stack.down()
    own_stack.up()
    assert own_stack.end(waiting) == ("completed", None)
    assert node_in_nomad(own_stack) == (before, "eligible")
    [runs] = own_stack.fetch("SELECT max(attempt) AS number, max(lost_attempts) AS lost FROM jobs")
    assert (runs["number"], runs["lost"]) == (1, 0)
