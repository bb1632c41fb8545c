from __future__ import annotations

import errno
import os
import resource
import threading
from pathlib import Path

import pytest
from memory_store import MemoryStore, make_rundir, more, upload

from leruli_node.files.upload import UploadError
from leruli_node.objects.store_errors import NotFoundError, StoreUnavailableError, UnstorableError


def test_the_store_is_retried(tmp_path: Path) -> None:
    store = MemoryStore()
    store.fail = {"d/x": [StoreUnavailableError("1")], "joberr.txt": [StoreUnavailableError("2")]}
    assert upload(store, make_rundir(tmp_path), "why").files == 3
    assert store.content["d/x"] == b"x" * 5000
    assert store.content["joberr.txt"] == b"error without line end\nleruli: why\n"


def test_the_retry_time_ends(tmp_path: Path) -> None:
    store = MemoryStore()
    store.fail = {
        "d/x": [StoreUnavailableError("no")] * 100,
        "joberr.txt": [StoreUnavailableError("no")] * 100,
    }
    with pytest.raises(UploadError, match="in time"):
        upload(store, make_rundir(tmp_path), retry_for_s=0.5)


def test_bucket_gone(tmp_path: Path) -> None:
    store = MemoryStore()
    store.fail = {"d/x": [NotFoundError(True)]}
    with pytest.raises(UploadError, match="bucket"):
        upload(store, make_rundir(tmp_path))


def test_a_file_that_the_store_refuses_goes_into_the_archive(tmp_path: Path) -> None:
    store = MemoryStore()
    store.fail = {"d/x": [UnstorableError("KeyTooLongError")]}
    done = upload(store, make_rundir(tmp_path))
    assert done.notes == ["in leruli-more.tar.gz: 1 file that the store refuses: d/x"]
    assert more(store) == {"d/x": b"x" * 5000}
    assert done.files == 3


def test_an_earlier_object_that_the_store_does_not_replace_is_deleted_first(tmp_path: Path) -> None:
    """H8: an object of an earlier attempt stayed as a result of this one."""
    store = MemoryStore()
    store.content["d/x"] = b"of an earlier attempt"
    store.fail = {"d/x": [UnstorableError("KeyTooLongError")]}
    done = upload(store, make_rundir(tmp_path))
    assert store.content["d/x"] == b"x" * 5000
    assert (done.files, done.notes) == (3, [])


def exhaust(held: list[int]) -> None:
    while True:
        held.append(os.open("/dev/null", os.O_RDONLY))


def test_a_lack_of_descriptors_does_not_make_files_unreadable(tmp_path: Path) -> None:
    for number in range(30):
        (make_rundir(tmp_path) if number == 0 else tmp_path / f"f{number}").touch()
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    held: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, before[1]))
    try:
        with pytest.raises(OSError, match="Too many"):
            exhaust(held)
        os.close(held.pop())
        os.close(held.pop())
        free = threading.Timer(0.3, lambda: [os.close(one) for one in held[:20]])
        free.start()
        store = MemoryStore()
        done = upload(store, tmp_path, retry_for_s=20.0)
        free.join()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for one in held[20:]:
            os.close(one)
    assert (done.files, done.notes) == (32, [])


def test_a_failing_disk_is_retried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, faults = os.open, [errno.EIO, errno.ENOMEM]

    def failing(path: str, flags: int, *args: int, **more: int) -> int:
        if path == "x" and faults:
            raise OSError(faults.pop(), "the disk")
        return real(path, flags, *args, **more)

    monkeypatch.setattr(os, "open", failing)
    store = MemoryStore()
    assert upload(store, make_rundir(tmp_path)).notes == []
    assert store.content["d/x"] == b"x" * 5000
    faults += [errno.EIO] * 1000
    with pytest.raises(UploadError, match="disk"):
        upload(store, tmp_path, retry_for_s=0.2)
    faults[:] = [errno.EACCES, errno.EACCES]
    assert upload(store, tmp_path).notes == [
        "not uploaded, and gone with the job's folder: 1 unreadable file: d/x"
    ]


def test_a_file_that_became_unreadable_after_the_survey_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, opened = os.open, []

    def failing(path: str, flags: int, *args: int, **more: int) -> int:
        if path == "x":
            opened.append(path)
            if len(opened) > 1:
                raise OSError(errno.EACCES, "no")
        return real(path, flags, *args, **more)

    monkeypatch.setattr(os, "open", failing)
    assert upload(MemoryStore(), make_rundir(tmp_path)).notes == [
        "not uploaded, and gone with the job's folder: 1 unreadable file: d/x"
    ]
