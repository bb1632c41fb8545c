"""Which temporary files are swept."""

import fcntl
import time
from pathlib import Path

import pytest

from leruli.folder import part_files as parts
from leruli.folder.part_files import part_in, sweep


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path.resolve() / "job"
    (made / "out").mkdir(parents=True)
    return made


def left_over(folder: Path, name: str = ".leruli-part-get-0") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("x")
    return folder / name


def test_a_file_that_is_being_written_stays(root: Path) -> None:
    with part_in(root / "out") as part:
        sweep(root, ["out"])
        assert part.exists()
        part.replace(root / "out" / "wfn")
    assert [path.name for path in (root / "out").iterdir()] == ["wfn"]


def test_names_that_lead_elsewhere_are_not_swept(root: Path) -> None:
    other = left_over(root.parent / "other")
    (root / "link").symlink_to(other.parent)
    (root / ".leruli-part-get-1").symlink_to(other)
    own = left_over(root)
    sweep(root, ["../other", "link", str(other.parent), "out/../../other", "a\0b", "absent"])
    assert other.exists()
    assert not own.exists()


def test_a_file_without_a_lock_is_swept_after_a_day(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files of a submission have no lock. On a file system without locks, no file has one."""
    short = left_over(root, ".leruli-part-0")
    sweep(root, [])
    assert short.exists()
    now = time.time()
    monkeypatch.setattr(parts.time, "time", lambda: now + 2 * 86400)
    sweep(root, [])
    assert not short.exists()

    def no_locks(descriptor: int, operation: int) -> None:
        raise OSError("no locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with part_in(root) as part:
        monkeypatch.setattr(parts.time, "time", lambda: now)
        sweep(root, [])
        assert part.exists()
