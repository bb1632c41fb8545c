from __future__ import annotations

import shutil
import tempfile
import urllib.error
import uuid
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import node_input
import node_nomad
import node_rig
import pytest
from fork_server import ForkServer, fork_server
from node_fake_service import FakeService
from node_store import Store, running_store

from leruli_queue.nodes.certificates import load_authority


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Function, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the end of the agent's log with a failure."""
    report = yield
    for rig in item.funcargs.values():
        if call.when == "call" and report.failed and isinstance(rig, node_rig.Rig):
            report.sections.append(("agent.log", rig.log[-6000:]))
    return report


@pytest.fixture(scope="session")
def node_store() -> Iterator[Store]:
    folder = Path(tempfile.mkdtemp(prefix="node-s3-"))
    try:
        with running_store(folder) as store:
            yield store
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def agents() -> Iterator[ForkServer]:
    with fork_server("leruli_node", node_rig.START) as made:
        yield made


@pytest.fixture(scope="session")
def plain_archive() -> bytes:
    return node_input.save_image(node_input.PLAIN_IMAGE, "plain:1")


@pytest.fixture(scope="session")
def user_archive() -> bytes:
    return node_input.save_image(node_input.USER_IMAGE, "withuser:1")


@pytest.fixture
def rig(
    tmp_path: Path, node_store: Store, agents: ForkServer, plain_archive: bytes
) -> Iterator[node_rig.Rig]:
    """A running node agent, with the image plain:1 published."""
    token = "lqg-" + uuid.uuid4().hex[:26]
    node_store.client.make_bucket(f"code-{token}")
    made = node_rig.Rig(tmp_path, node_store, FakeService(), token, agents)
    made.publish("plain", "1", plain_archive)
    try:
        made.start()
        yield made
    finally:
        made.close()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[node_nomad.Server]:
    """A Nomad server, which each test joins with a node of its own."""
    with node_nomad.running_server(tmp_path_factory.mktemp("nomad") / "server") as made:
        yield made


@pytest.fixture
def nomad_rig(
    tmp_path: Path,
    server: node_nomad.Server,
    node_store: Store,
    agents: ForkServer,
    plain_archive: bytes,
) -> Iterator[node_rig.Rig]:
    token = "lqg-" + uuid.uuid4().hex[:26]
    node_store.client.make_bucket(f"code-{token}")
    service = FakeService([server.rpc], load_authority(server.tls.ca, server.tls.ca_key))
    wanted = {"NodePool": node_nomad.POOL, "NodeName": service.nodeid, "TTL": "5m"}

    def introduce() -> Any:
        # A server that has just started has no signing key yet and answers 500.
        try:
            return server.call("POST", "acl/identity/client-introduction-token", wanted)
        except urllib.error.HTTPError:
            return None

    introduction = node_rig.wait_for(introduce, 30, "an introduction token")
    service.nomad["introtoken"] = introduction["JWT"]
    made = node_rig.Rig(
        tmp_path, node_store, service, token, agents, {"LERULI_NODE_NOMAD": node_nomad.NOMAD}
    )
    made.publish("plain", "1", plain_archive)
    try:
        made.start()
        yield made
    finally:
        if made.process is not None and made.process.poll() is None:
            made.stop()
        made.close()
