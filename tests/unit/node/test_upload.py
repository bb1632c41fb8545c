from __future__ import annotations

import contextlib
import io
import threading
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from memory_store import MemoryStore, job_bucket, make_rundir, upload

from leruli_node.errors import StoppedError
from leruli_node.files.upload import Uploader
from leruli_node.objects.guarded_pool import WriteGuard
from leruli_node.objects.object_store import LARGEST, ObjectStore
from leruli_node.objects.store_errors import UnstorableError
from leruli_node.objects.upload_lease import UploadLease


def test_all_files_but_run_sh_are_uploaded(tmp_path: Path) -> None:
    store = MemoryStore()
    store.content["left/over"] = b"of an earlier attempt"
    done = upload(store, make_rundir(tmp_path))
    assert store.content == {
        "run.tgz": b"input",
        "joblog.txt": b"log",
        "joberr.txt": b"error without line end",
        "d/x": b"x" * 5000,
    }
    assert (done.files, done.bytes, done.notes) == (3, 5025, [])


def test_what_the_files_take_on_the_disk(tmp_path: Path) -> None:
    """Each file once, whatever its names, by its blocks."""
    (make_rundir(tmp_path) / "big").write_bytes(b"x" * 102_400)
    (tmp_path / "d" / "again").hardlink_to(tmp_path / "big")
    with (tmp_path / "sparse").open("wb") as sparse:
        sparse.truncate(300_000)
    assert 102_400 <= upload(MemoryStore(), tmp_path).disk_bytes < 200_000


def test_joberr_ends_with_sentence_and_notes(tmp_path: Path) -> None:
    store = MemoryStore()
    (make_rundir(tmp_path) / "l").symlink_to("/etc/passwd")
    done = upload(store, tmp_path, "it ended badly")
    assert done.notes == ["in leruli-more.tar.gz: 1 link: l"]
    assert store.content["joberr.txt"] == (
        b"error without line end\nleruli: it ended badly\n"
        b"leruli: in leruli-more.tar.gz: 1 link: l\n"
    )
    assert done.summary == "in leruli-more.tar.gz: 1 link; joberr.txt has the names"
    # Nothing was changed on disk, so the upload can be repeated.
    assert (tmp_path / "joberr.txt").read_text() == "error without line end"


def test_a_stopped_upload_ends(tmp_path: Path) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(StoppedError):
        Uploader(2, 5.0, 10**9).upload(
            job_bucket(MemoryStore(), stop), make_rundir(tmp_path), None, stop
        )


def test_without_a_run_only_joberr_is_written(tmp_path: Path) -> None:
    store = MemoryStore()
    store.content["old"] = b""
    upload(store, None, "image psi4:1.6 is not published")
    assert store.content == {
        "run.tgz": b"input",
        "old": b"",
        "joberr.txt": b"leruli: image psi4:1.6 is not published\n",
    }


def test_a_job_with_large_files_does_not_delay_another(tmp_path: Path) -> None:
    """Upload memory is shared in order of request, and large files have their own part."""
    began, stop = threading.Event(), threading.Event()

    class Slow(MemoryStore):
        def write(self, bucket: str, name: str, *more: Any) -> None:
            if name == "large":
                began.set()
                assert stop.wait(30)
                raise UnstorableError("enough")
            super().write(bucket, name, *more)

    store = Slow()
    uploader = Uploader(2, 5.0, 10**15, memory_bytes=64 * 2**20)
    (tmp_path / "a").mkdir()
    with (tmp_path / "a" / "large").open("wb") as file:
        file.truncate(2 * 2**30)

    def send_large() -> None:
        with contextlib.suppress(StoppedError):
            uploader.upload(job_bucket(store, stop), tmp_path / "a", None, stop)

    large = threading.Thread(target=send_large)
    large.start()
    try:
        assert began.wait(30)
        (tmp_path / "b").mkdir()
        go_on = threading.Event()
        done = uploader.upload(job_bucket(store, go_on), make_rundir(tmp_path / "b"), None, go_on)
        assert done.files == 3
        assert large.is_alive()
    finally:
        stop.set()
        large.join(30)


def test_parts_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    store = ObjectStore("http://127.0.0.1:1", "a", "b")
    monkeypatch.setattr(
        store._client, "put_object", lambda *_, part_size, **__: sizes.append(part_size)
    )
    guard = UploadLease(lambda _: None, threading.Event())
    for size in (0, 200 * 2**30, LARGEST):
        store.write("b", "n", io.BytesIO(), size, {}, guard)
    assert sizes == [16 * 2**20, 21 * 2**20, 64 * 2**20]
    with pytest.raises(UnstorableError):
        store.write("b", "n", io.BytesIO(), LARGEST + 1, {}, guard)


def test_a_stop_ends_the_sending_of_a_file(tmp_path: Path) -> None:
    stop = threading.Event()

    class Stopping(MemoryStore):
        def write(
            self,
            bucket: str,
            name: str,
            data: BinaryIO,
            size: int,
            metadata: dict[str, str],
            guard: WriteGuard,
        ) -> None:
            guard.wait()
            if name == "x":
                stop.set()
            data.read(1)

    (tmp_path / "x").write_bytes(b"x" * 5000)
    store = Stopping()
    with pytest.raises(StoppedError):
        Uploader(1, 5.0, 10**9).upload(job_bucket(store, stop), tmp_path, None, stop)
    assert "x" not in store.content


def test_an_output_file_can_be_read_again(tmp_path: Path) -> None:
    from leruli_node.files.output_file import OutputFile

    joined = OutputFile(io.BytesIO(b"abc"), 3, b"de", threading.Event())
    for size in (1, 2, 3, 4, 5, 9):
        joined.seek(0)
        parts = []
        while part := joined.read(size):
            parts.append(part)
        assert b"".join(parts) == b"abcde"
