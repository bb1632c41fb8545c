from __future__ import annotations

import os
from pathlib import Path

import pytest
from memory_store import MemoryStore, make_rundir, more, upload

from leruli_node.files import upload as upload_module
from leruli_node.files.remainder import NAME
from leruli_node.files.walk import NOT_UPLOADED, Skipped, shown, walk
from leruli_node.objects.object_store import LARGEST
from leruli_node.objects.store_errors import StoreUnavailableError


def test_files_that_cannot_be_objects_are_in_one_archive(tmp_path: Path) -> None:
    """H10: links, odd names, reserved names, long paths, and files beyond the number of objects."""
    make_rundir(tmp_path)
    odd = os.fsdecode(b"bad\xff")
    (tmp_path / odd).write_bytes(b"odd")
    (tmp_path / "run.tgz").write_bytes(b"mine")
    (tmp_path / "z").symlink_to("/etc/passwd")
    long = "/".join(["n" * 200] * 6)
    (tmp_path / long).parent.mkdir(parents=True)
    (tmp_path / long).write_bytes(b"long" * 300)
    os.mkfifo(tmp_path / "pipe")
    for number in range(9):
        (tmp_path / f"f{number}").touch()
    store = MemoryStore()
    done = upload(store, tmp_path, max_files=7)
    objects = {"run.tgz", "joblog.txt", "joberr.txt", NAME, *(f"f{n}" for n in range(7))}
    assert set(store.content) == objects
    assert store.content["run.tgz"] == b"input"
    assert more(store) == {
        odd: b"odd",
        "run.tgz": b"mine",
        "z": "/etc/passwd",
        long: b"long" * 300,
        "d/x": b"x" * 5000,
        "f7": b"",
        "f8": b"",
    }
    assert done.notes == [
        f"in {NAME}: 3 files after the first 7: f7, f8, d/x",
        f"in {NAME}: 1 file with a name that is not UTF-8: bad\\xff",
        f"in {NAME}: 1 file with a path longer than 1024 bytes: {long[:120]}",
        f"in {NAME}: 1 file with a reserved name: run.tgz",
        f"in {NAME}: 1 link: z",
        "not uploaded, and gone with the job's folder: 1 pipe, socket or device: pipe",
    ]
    assert store.content["joberr.txt"].endswith(b"device: pipe\n")
    assert done.files == 10


def test_the_archive_takes_no_name_of_a_result(tmp_path: Path) -> None:
    """H10: a file with the archive's name is a result like any other."""
    (make_rundir(tmp_path) / NAME).write_bytes(b"mine")
    (tmp_path / "l").symlink_to("x")
    store = MemoryStore()
    assert upload(store, tmp_path).notes == ["in leruli-more-2.tar.gz: 1 link: l"]
    assert store.content[NAME] == b"mine"
    assert "leruli-more-2.tar.gz" in store.content


def test_the_archive_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """H10: a bounded number of names is visited and packed; the rest is counted."""
    monkeypatch.setattr(upload_module, "_REST_FACTOR", 2)
    for number in range(20):
        (make_rundir(tmp_path) if number == 0 else tmp_path / f"g{number}").touch()
    (tmp_path / "a").write_bytes(b"a" * 2**20)
    store = MemoryStore()
    done = upload(store, tmp_path, max_files=3)
    assert len(more(store)) == 6
    assert done.notes[1] == (
        "not uploaded, and gone with the job's folder: 12 files after the first 3, "
        "for which there was no room: "
        "g17, g18, g19, g2, g3 and 7 more"
    )
    monkeypatch.setattr("leruli_node.files.walk.MOST_VISITS", 10)
    (told,) = (note for note in upload(store, tmp_path, max_files=3).notes if "look" in note)
    assert told.startswith(
        "not uploaded, and gone with the job's folder: 1 or more names after the first 10"
    )


def test_the_archive_is_made_again_when_the_store_was_away(tmp_path: Path) -> None:
    (make_rundir(tmp_path) / "l").symlink_to("x")
    store = MemoryStore()
    store.fail = {NAME: [StoreUnavailableError("1")]}
    assert upload(store, tmp_path).files == 4
    assert more(store) == {"l": "x"}


def test_names_that_a_listing_cannot_contain(tmp_path: Path) -> None:
    for name in ("a\x01", "b\n", "c\x7f", "d\uffff"):
        (make_rundir(tmp_path) if name == "a\x01" else tmp_path).joinpath(name).touch()
    store = MemoryStore()
    (note,) = upload(store, tmp_path).notes
    assert note.startswith(
        "in leruli-more.tar.gz: 4 files with control characters in the name: a\\x01"
    )
    assert set(store.content) == {"run.tgz", "joblog.txt", "joberr.txt", "d/x", NAME}
    assert set(more(store)) == {"a\x01", "b\n", "c\x7f", "d\uffff"}


def test_too_much_output_keeps_the_small_files(tmp_path: Path) -> None:
    with (make_rundir(tmp_path) / "sparse").open("wb") as file:
        file.truncate(LARGEST + 1)
    (tmp_path / "small").write_bytes(b"s")
    store = MemoryStore()
    done = upload(store, tmp_path, max_bytes=5000)
    assert set(store.content) == {"run.tgz", "joblog.txt", "joberr.txt", "small"}
    assert done.notes == [
        f"{NOT_UPLOADED}: 1 file beyond the 0 MB of output of a job: d/x",
        "not uploaded, and gone with the job's folder: 1 file of more than 625 GB: sparse",
    ]
    assert b"sparse" in store.content["joberr.txt"]


def test_walk_is_bounded(tmp_path: Path) -> None:
    """H2, H10: nested folders are visited to a bounded depth; deeper ones are reported."""
    deep = os.open(tmp_path, os.O_RDONLY)
    for _ in range(300):
        os.mkdir("d", dir_fd=deep)
        below = os.open("d", os.O_RDONLY, dir_fd=deep)
        os.close(deep)
        deep = below
        os.close(os.open("f", os.O_WRONLY | os.O_CREAT, dir_fd=deep))
    os.close(deep)
    (tmp_path / ("n" * 200)).mkdir()
    skipped = Skipped()
    top = os.open(tmp_path, os.O_RDONLY)
    before = len(list(Path("/proc/self/fd").iterdir()))
    found = [entry.unfit() for entry in walk(top, skipped)]
    assert len(list(Path("/proc/self/fd").iterdir())) <= before  # other tests may close theirs
    os.close(top)
    assert found == [None] * 100 + ["files in more than 100 folders"] * 150
    assert list(skipped.by_reason) == ["folders below 250 others, with their content"]


def test_shown() -> None:
    assert shown("a ü") == "a ü"
    assert shown(os.fsdecode(b"x\xff")) == "x\\xff"
    assert shown("a\nb\x1b[2J") == "a\\nb\\x1b[2J"
