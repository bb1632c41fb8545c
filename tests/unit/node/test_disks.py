"""When a node reports that its disk is low. The file system's answer is a FAKE."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from leruli_node.container.disk_use import Disks


def test_a_node_whose_disk_was_low_takes_jobs_again_when_a_quarter_more_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """M1: each change requeues the unplaced jobs of the group, so a node must not alternate."""
    disks = Disks(tmp_path, lambda: tmp_path, 1000)

    def is_low(free_mb: int) -> bool:
        answer = SimpleNamespace(f_bavail=free_mb, f_frsize=1 << 20, f_blocks=100_000)
        monkeypatch.setattr(os, "statvfs", lambda _: answer)
        return disks.trouble() is not None

    answers = [is_low(free_mb) for free_mb in (1100, 990, 1100, 1240, 1260, 1100, 990)]
    assert answers == [False, True, True, True, False, False, True]
