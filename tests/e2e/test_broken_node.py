"""Two nodes, one of them broken: the cost for the group's jobs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e_world import FINAL, StackOfTest, another_node, forget_images, running_stack, wait_for
from objects_world import running_objects

# As in finding D1: the broken node fails soon, and jobs are soon tried again.
SETTINGS = {
    "LERULI_NODE_CORES": "3",
    "LERULI_NODE_PATIENCE_SECONDS": "5",
    "LERULI_QUEUE_NODE_REPORT_S": "2",
    "LERULI_QUEUE_RETRY_DELAY_S": "2",
    "LERULI_QUEUE_NODE_PROBE_S": "5",
}
JOBS = 24


@pytest.fixture
def own_stack() -> Iterator[StackOfTest]:
    with running_stack(SETTINGS) as made:
        yield made
        forget_images(made)


def run_all(stack: StackOfTest, folder: Path) -> tuple[dict[str, int], int]:
    """Run the jobs; return their number by state, and the attempts that the second node lost."""
    folders = [folder / str(number) for number in range(JOBS)]
    for one in folders:
        one.mkdir(parents=True)
        stack.submit(one, "sleep 1; echo done", "--memory", "100")
    counts = "SELECT state::text, count(*) FROM jobs GROUP BY state"

    def ended() -> bool:
        return sum(n for state, n in stack.fetch(counts) if state in FINAL) == JOBS

    wait_for(ended, seconds=240, what="all jobs have ended")
    [row] = stack.fetch(
        "SELECT count(*) FROM attempts a JOIN nodes n ON n.id = a.node_id"
        " WHERE n.name = 'broken' AND a.outcome IS DISTINCT FROM 'ended'"
    )
    print("attempts lost on the broken node:", row[0])
    return dict(stack.fetch(counts)), row[0]


def test_a_node_with_a_wrong_key_costs_no_job(own_stack: StackOfTest, tmp_path: Path) -> None:
    """D1, H5: of 24 jobs none fails, and no attempt is lost, as the node reports its fault."""
    with another_node(own_stack, "broken", LERULI_S3_SECRET="wrong-wrong-wrong"):
        states, lost = run_all(own_stack, tmp_path)
        token = own_stack.secrets["group_token"]
        shown = own_stack.call("group-nodes", grouptoken=token).json()["nodes"]
    assert states == {"completed": JOBS}
    assert lost == 0
    [broken] = [node for node in shown if node["name"] == "broken"]
    assert broken["standing"] == "troubled"
    assert "does not take its S3 key (SignatureDoesNotMatch)" in broken["reason"]


def test_a_node_of_another_storage_costs_no_job(own_stack: StackOfTest, tmp_path: Path) -> None:
    """H5: the store accepts the node's key but has no images, and this fails no job."""
    with running_objects(tmp_path / "other") as other:
        settings = {
            "LERULI_S3_SERVER": other.url,
            "LERULI_S3_ACCESS": other.access,
            "LERULI_S3_SECRET": other.secret,
        }
        with another_node(own_stack, "broken", **settings):
            states, lost = run_all(own_stack, tmp_path / "jobs")
    assert states == {"completed": JOBS}
    assert lost <= 10
