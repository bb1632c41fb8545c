from __future__ import annotations

import shutil
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import node_rig
from node_fake_service import FakeService


@pytest.fixture(scope="session")
def node_store() -> Iterator[node_rig.Store]:
    folder = Path(tempfile.mkdtemp(prefix="node-s3-"))
    try:
        with node_rig.running_store(folder) as store:
            yield store
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def plain_archive() -> bytes:
    return node_rig.save_image(node_rig.PLAIN_IMAGE, "plain:1")


@pytest.fixture(scope="session")
def user_archive() -> bytes:
    return node_rig.save_image(node_rig.USER_IMAGE, "withuser:1")


@pytest.fixture
def rig(tmp_path: Path, node_store: node_rig.Store, plain_archive: bytes) -> Iterator[node_rig.Rig]:
    """A node agent that runs, with the image plain:1 published."""
    token = "lqg-" + uuid.uuid4().hex[:26]
    node_store.client.make_bucket(f"code-{token}")
    made = node_rig.Rig(tmp_path, node_store, FakeService(), token)
    made.publish("plain", "1", plain_archive)
    try:
        made.start()
        yield made
    finally:
        made.close()
