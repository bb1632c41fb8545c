"""When a node says that its disk is low: a FAKE of the file system's answer."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from leruli_node.container.disk_use import Disks


def test_a_node_whose_disk_was_low_takes_jobs_again_when_a_quarter_more_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """M1: one that goes to and fro would have all that waits for its group taken back each time."""
    disks = Disks(tmp_path, lambda: tmp_path, 1000)

    def is_low(free_mb: int) -> bool:
        answer = SimpleNamespace(f_bavail=free_mb, f_frsize=1 << 20, f_blocks=100_000)
        monkeypatch.setattr(os, "statvfs", lambda _: answer)
        return disks.trouble() is not None

    looks = [is_low(free_mb) for free_mb in (1100, 990, 1100, 1240, 1260, 1100, 990)]
    assert looks == [False, True, True, True, False, False, True]
