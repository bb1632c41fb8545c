"""A data folder for parts of the one-machine stack."""

from __future__ import annotations

from pathlib import Path

import pytest

from leruli_queue.embedded.folders import Folders


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    folders = Folders(tmp_path)
    folders.make()
    return folders
