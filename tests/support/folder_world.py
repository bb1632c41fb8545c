"""A folder of a calculation, submitted to the real service; tests end its job."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leruli.storage.store import Store

SUBMIT = ("task-submit", "psi4", "1.5", "psi4", "input.dat")
INPUT = b"r = 0.96\n"
LONG_AGO = 1_577_836_800 * 10**9  # 2020-01-01, in nanoseconds since 1970


@dataclass(frozen=True)
class FolderOfTest:
    """A folder with a job."""

    path: Path
    store: Store
    queue: Any

    @property
    def job(self) -> str:
        return (self.path / "leruli.job").read_text().strip()

    @property
    def bucket(self) -> str:
        return (self.path / "leruli.bucket").read_text().strip()

    def ends(self, state: str = "completed", reason: str | None = None, **results: bytes) -> None:
        """End the job with results; the names of results have _ in place of the dot."""
        for name, content in results.items():
            self.store.put(self.bucket, name.replace("_", "."), content)
        self.queue.sql(
            "UPDATE jobs SET state = $1::job_state, ended_at = now(), reason = $2 WHERE id = $3",
            *(state, reason, self.job),
        )

    def read(self, name: str) -> str:
        return (self.path / name).read_text()

    def beside(self, name: str) -> Path:
        return self.path / f"{name}.leruli-{self.job[-8:]}"


def make_folder(path: Path) -> None:
    """Make a folder with an input, a script, and a link to the input."""
    path.mkdir()
    (path / "input.dat").write_bytes(INPUT)
    (path / "go.sh").write_text("#!/bin/sh\n")
    (path / "go.sh").chmod(0o755)
    os.utime(path / "go.sh", ns=(LONG_AGO, LONG_AGO))
    (path / "link.dat").symlink_to("input.dat")


def submit_folder(real: Callable[..., Any], queue: Any, store: Store, path: Path) -> FolderOfTest:
    """Submit a folder by the client, run as the process `real`."""
    done = real(*SUBMIT, cwd=path)
    assert done.returncode == 0, done.stderr
    return FolderOfTest(path, store, queue)
