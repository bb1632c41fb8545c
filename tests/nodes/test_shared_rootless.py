"""Shared containers of a node with rootless Docker, as the package makes it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e_world import StackOfTest
from hosts import Network
from machine import Machine

JOBS = 30
# Folders of another user than the agent's, which only that user may enter.
COMMAND = (
    "cat /etc/hostname >host; id -u >who; mkdir -p own/deep; echo $LERULI_JOBID >own/deep/id; "
    "chmod 700 own own/deep; ls /tmp /dev/shm >left; touch /tmp/x /dev/shm/x; exit 0"
)


@pytest.fixture(scope="module")
def slots(net: Network) -> Iterator[StackOfTest]:
    """A stack in which slots run further attempts."""
    folder = Path(tempfile.mkdtemp(prefix="leruli-nodes-shared-"))
    settings = {"LERULI_QUEUE_SLOT_MAX_S": "300", "LERULI_QUEUE_NODE_REPORT_S": "1"}
    made = StackOfTest(folder / "data", settings, ("--address", net.address, "--no-node"))
    try:
        made.up()
        for image in ("leruli-test", "leruli-test-user"):
            done = made.leruli(folder, "publish-code", image, "1")
            assert done.returncode == 0, done.stderr
        yield made
    finally:
        made.down()
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def machine(net: Network, slots: StackOfTest) -> Iterator[Machine]:
    made = Machine(net.add("shared1"), slots)
    try:
        made.follow_readme()
        made.wait_until_ready()
        yield made
    finally:
        made.host.close()


@pytest.mark.parametrize("image", ["leruli-test", "leruli-test-user"])
def test_the_runner_of_shared_containers_works_with_rootless_docker(
    machine: Machine, slots: StackOfTest, tmp_path: Path, image: str
) -> None:
    for number in range(JOBS):
        (tmp_path / f"job-{number}").mkdir()
    options = ("--share-container", "--memory", "200", "--batch", "job-*")
    done = slots.leruli(tmp_path, "task-submit", *options, image, "1", COMMAND)
    assert done.returncode == 0, done.stderr
    folders = [tmp_path / f"job-{number}" for number in range(JOBS)]
    for folder in folders:
        assert slots.end(folder) == ("completed", None), machine.said()[-3000:]
    done = slots.leruli(tmp_path, "task-get", "--batch", "job-*")
    assert done.returncode == 0, done.stderr
    for folder in folders:
        jobid = (folder / "leruli.job").read_text()
        assert (folder / "own" / "deep" / "id").read_text().strip() == jobid.strip()
        assert ":" in (folder / "left").read_text()
        assert "x" not in (folder / "left").read_text().split()
    hosts = {(folder / "host").read_text() for folder in folders}
    assert "no shared container can be made" not in machine.said()
    assert len(hosts) < JOBS // 2
    [counts] = slots.fetch("SELECT count(slot_job) AS further FROM attempts")
    assert counts["further"] >= JOBS // 2
    users = {(folder / "who").read_text().strip() for folder in folders}
    assert (users == {"0"}) is (image == "leruli-test")
