"""H2: folder trees of any depth, names and modes are removed."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from leruli_node.files.remove_tree import remove_tree

# As a user other than root, to whom modes apply.
AS_NOBODY = """
import os, sys
from pathlib import Path
from leruli_node.files.remove_tree import remove_tree
os.setgroups([]); os.setgid(65534); os.setuid(65534)
os.umask(0)
top = Path(sys.argv[1]) / "top"
(top / "a" / "b").mkdir(parents=True)
(top / "a" / "b" / "f").touch()
(top / "a" / "b").chmod(0)
(top / "a").chmod(0o100)
top.chmod(0o500)
error = remove_tree(top)
print(error, top.exists())
"""


def chain(top: Path, depth: int, name: str = "d") -> None:
    """Make nested folders with a file in each, as a job does: by `cd` into each."""
    top.mkdir(exist_ok=True)
    folder = os.open(top, os.O_RDONLY)
    for _ in range(depth):
        os.close(os.open("f", os.O_WRONLY | os.O_CREAT, dir_fd=folder))
        os.mkdir(name, dir_fd=folder)
        below = os.open(name, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = below
    os.close(folder)


def highest_descriptor() -> int:
    return max(int(path.name) for path in Path("/proc/self/fd").iterdir())


@pytest.mark.parametrize(("depth", "name"), [(3_000, "d"), (200, "n" * 255)])
def test_nested_folders(tmp_path: Path, depth: int, name: str) -> None:
    """H2: 3,000 folders deep, and a path of 51,000 bytes; few files are open at a time."""
    chain(tmp_path / "t", depth, name)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest_descriptor() + 10, before[1]))
    try:
        assert remove_tree(tmp_path / "t") is None
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert list(tmp_path.iterdir()) == []


def test_links_are_not_followed(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "f").touch()
    top = tmp_path / "t"
    (top / "a").mkdir(parents=True)
    (top / "a" / "l").symlink_to(kept)
    (top / "l").symlink_to(kept)
    os.mkfifo(top / "pipe")
    assert remove_tree(top) is None
    assert not top.exists()
    (tmp_path / "l").symlink_to(kept)
    assert remove_tree(tmp_path / "l") is None
    assert remove_tree(tmp_path / "none") is None
    assert [path.name for path in tmp_path.rglob("*")] == ["kept", "f"]


@pytest.mark.skipif(os.getuid() != 0, reason="needs another user")
def test_modes_of_ones_own_folders(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    for parent in tmp_path.parents[:-2]:
        parent.chmod(0o711)
    done = subprocess.run(
        [sys.executable, "-c", AS_NOBODY, tmp_path],
        env={"PYTHONPATH": str(Path(__file__).parents[3] / "node_setup")},
        capture_output=True,
        check=False,
    )
    assert done.stdout == b"None False\n", done.stderr.decode()


@pytest.mark.skipif(os.getuid() != 0, reason="mounts")
def test_a_mount_stays_and_the_rest_is_removed(tmp_path: Path) -> None:
    top = tmp_path / "t"
    for name in ("a/m", "b/c"):
        (top / name).mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "x", top / "a/m"], check=True)
    try:
        (top / "a/m/f").touch()
        error = remove_tree(top)
        assert error is not None
        assert [path.name for path in top.rglob("*")] == ["a", "m", "f"]
    finally:
        subprocess.run(["umount", top / "a/m"], check=True)
    assert remove_tree(top) is None
