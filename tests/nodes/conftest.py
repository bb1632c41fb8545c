from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e_world import StackOfTest
from hosts import Network, network
from machine import Machine

# Short times, so that tests of limits are quick.
SETTINGS = {
    "LERULI_QUEUE_DRAIN_DEADLINE_S": "6",
    "LERULI_QUEUE_RETRY_DELAY_S": "1",
    "LERULI_QUEUE_NODE_REPORT_S": "1",
    "LERULI_QUEUE_NODE_SILENCE_S": "8",
}


@pytest.fixture(scope="session")
def net() -> Iterator[Network]:
    """A network of hosts, on which this machine is the server."""
    with network() as made:
        yield made


@pytest.fixture(scope="session")
def stack(net: Network) -> Iterator[StackOfTest]:
    """Service, Nomad server and object store on this machine, which is no node itself."""
    folder = Path(tempfile.mkdtemp(prefix="leruli-nodes-stack-"))
    made = StackOfTest(folder / "data", SETTINGS, ("--address", net.address, "--no-node"))
    try:
        made.up()
        done = made.leruli(folder, "publish-code", "leruli-test", "1")
        assert done.returncode == 0, done.stderr
        yield made
    finally:
        made.down()
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def node(net: Network, stack: StackOfTest) -> Iterator[Machine]:
    """A node that was made by the README, shared by the tests of a module."""
    made = Machine(net.add("node1"), stack)
    try:
        made.follow_readme()
        made.wait_until_ready()
        yield made
    finally:
        made.host.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a job."""
    made = tmp_path / "job"
    made.mkdir()
    return made
