"""Removes what Nomad's client left in its data_dir, and unmounts it first."""

from __future__ import annotations

import subprocess
from pathlib import Path

from leruli_node.files.remove_tree import remove_tree


def remove_allocations(folder: Path) -> None:
    """Remove the folders of all allocations. Nomad must be stopped and have nothing to run.

    Nomad keeps these folders, and their mounts, until its own garbage collection. A node that was
    shut down should leave nothing mounted. The folders are removed whole: Nomad's collection fails
    at a folder without its mount, but not at a missing folder.
    """
    _unmount_below(folder)
    for part in ("alloc", "alloc_mounts"):
        for allocation in (folder / part).glob("*"):
            remove_tree(allocation)


def remove_nomad_data(folder: Path) -> None:
    """Remove all that a stopped Nomad has in its data_dir."""
    _unmount_below(folder)
    for part in folder.iterdir():
        remove_tree(part)


def _unmount_below(folder: Path) -> None:
    # As root Nomad mounts a small memory file system in each allocation.
    mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace")
    for line in reversed(mounts.splitlines()):
        point = line.split(" ")[1]
        if point.startswith(f"{folder}/"):
            subprocess.run(["umount", "-l", "--", point], check=False, capture_output=True)
