from __future__ import annotations

import io
import os
import threading
from pathlib import Path
from typing import BinaryIO

import pytest

from leruli_node.errors import Interrupted
from leruli_node.images import etag_name, published_versions
from leruli_node.object_store import NotThere, ObjectStore, StoreAway, Unstorable
from leruli_node.upload import Skipped, Uploader, UploadFailed, shown, walk


class MemoryStore(ObjectStore):
    """Objects in memory, with faults on demand."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {"run.tgz": b"input"}
        self.fail: dict[str, list[Exception]] = {}

    def write(self, bucket: str, name: str, data: BinaryIO, size: int) -> None:
        content = b""
        while len(content) < size:
            content += data.read(min(1000, size - len(content)))
        if self.fail.get(name):
            raise self.fail[name].pop(0)
        assert data.read(1) == b""
        self.objects[name] = content

    def names(self, bucket: str, prefix: str = "") -> list[str]:
        return list(self.objects)

    def remove(self, bucket: str, names: list[str]) -> None:
        for name in names:
            del self.objects[name]


def make(tmp_path: Path) -> Path:
    (tmp_path / "joblog.txt").write_text("log")
    (tmp_path / "joberr.txt").write_text("error without line end")
    (tmp_path / "run.sh").write_text("true")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "x").write_bytes(b"x" * 5000)
    return tmp_path


def upload(
    store: ObjectStore, top: Path | None, sentence: str | None = None, patience: float = 5.0
):  # type: ignore[no-untyped-def]
    return Uploader(store, 2, patience).upload("b", top, sentence, threading.Event())


def test_all_but_the_reserved(tmp_path: Path) -> None:
    store = MemoryStore()
    store.objects["left/over"] = b"of an earlier attempt"
    done = upload(store, make(tmp_path))
    assert store.objects == {
        "run.tgz": b"input",
        "joblog.txt": b"log",
        "joberr.txt": b"error without line end",
        "d/x": b"x" * 5000,
    }
    assert (done.files, done.bytes, done.notes) == (3, 5025, [])


def test_sentence_and_notes_stand_in_joberr(tmp_path: Path) -> None:
    store = MemoryStore()
    (make(tmp_path) / "l").symlink_to("/etc/passwd")
    done = upload(store, tmp_path, "it ended badly")
    assert done.notes == ["not uploaded: 1 links: l"]
    assert store.objects["joberr.txt"] == (
        b"error without line end\nleruli: it ended badly\nleruli: not uploaded: 1 links: l\n"
    )
    # Nothing was changed on disk, so that it can be done again.
    assert (tmp_path / "joberr.txt").read_text() == "error without line end"


def test_tries_again(tmp_path: Path) -> None:
    store = MemoryStore()
    store.fail = {"d/x": [StoreAway("1")], "joberr.txt": [StoreAway("2")]}
    assert upload(store, make(tmp_path), "why").files == 3
    assert store.objects["d/x"] == b"x" * 5000
    assert store.objects["joberr.txt"] == b"error without line end\nleruli: why\n"


def test_patience_ends(tmp_path: Path) -> None:
    store = MemoryStore()
    store.fail = {"d/x": [StoreAway("no")] * 100, "joberr.txt": [StoreAway("no")] * 100}
    with pytest.raises(UploadFailed, match="in time"):
        upload(store, make(tmp_path), patience=0.5)


def test_bucket_gone(tmp_path: Path) -> None:
    store = MemoryStore()
    store.fail = {"d/x": [NotThere(True)]}
    with pytest.raises(UploadFailed, match="bucket"):
        upload(store, make(tmp_path))


def test_one_file_that_the_store_refuses(tmp_path: Path) -> None:
    store = MemoryStore()
    store.fail = {"d/x": [Unstorable("KeyTooLongError")]}
    done = upload(store, make(tmp_path))
    assert done.notes == ["not uploaded: 1 files that the store refuses: d/x"]
    assert done.files == 2


def test_stop(tmp_path: Path) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(Interrupted):
        Uploader(MemoryStore(), 2, 5.0).upload("b", make(tmp_path), None, stop)


def test_without_a_container(tmp_path: Path) -> None:
    store = MemoryStore()
    store.objects["old"] = b""
    upload(store, None, "image psi4:1.6 is not published")
    assert store.objects == {
        "run.tgz": b"input",
        "joberr.txt": b"leruli: image psi4:1.6 is not published\n",
    }


def test_walk_is_bounded(tmp_path: Path) -> None:
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
    assert list(walk(top, skipped)) == []
    os.close(top)
    assert list(skipped.by_reason) == ["files in more than 100 folders"]


def test_shown() -> None:
    assert shown("a ü") == "a ü"
    assert shown(os.fsdecode(b"x\xff")) == "x\\xff"
    assert shown("a\nb\x1b[2J") == "a\\nb\\x1b[2J"


def test_published_versions() -> None:
    names = ["psi4-1.10.tgz", "psi4-1.9.tgz", "psi4-dev-2.tgz", "psi4-x.txt", "psi4.tgz"]
    assert published_versions(names, "psi4") == ["1.9", "1.10"]
    assert published_versions(["a-beta.tgz", "a-1b.tgz"], "a") == ["beta", "1b"]


def test_the_etag_is_bound_to_code_and_version() -> None:
    names = {etag_name("p/k", c, v, e) for c in "ab" for v in "12" for e in "xy"}
    assert len(names) == 8


def test_joined_reads_again(tmp_path: Path) -> None:
    from leruli_node.upload import _Joined

    joined = _Joined(io.BytesIO(b"abc"), 3, b"de")
    for size in (1, 2, 3, 4, 5, 9):
        joined.seek(0)
        parts = []
        while part := joined.read(size):
            parts.append(part)
        assert b"".join(parts) == b"abcde"
