from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e_world import StackOfTest, forget_images

# Short ones, so that a test of a limit does not take longer than it must.
SETTINGS = {"LERULI_NODE_GRACE_SECONDS": "2"}
IMAGES = ("leruli-test:1", "leruli-test-user:1")


@pytest.fixture(scope="session")
def stack() -> Iterator[StackOfTest]:
    """A stack that all tests share, with the images of the tests published."""
    folder = Path(tempfile.mkdtemp(prefix="leruli-e2e-"))
    made = StackOfTest(folder / "data", SETTINGS)
    try:
        made.up()
        for image in IMAGES:
            done = made.leruli(folder, "publish-code", *image.split(":"))
            assert done.returncode == 0, done.stderr
        yield made
    finally:
        made.down()
        forget_images(made)
        # Fails when the stack left anything mounted there.
        shutil.rmtree(folder)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a job."""
    made = tmp_path / "job"
    made.mkdir()
    return made
