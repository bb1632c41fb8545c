from __future__ import annotations

import contextlib
import errno
import io
import os
import resource
import tarfile
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from leruli_node.errors import StoppedError
from leruli_node.files import upload as upload_module
from leruli_node.files.remainder import NAME
from leruli_node.files.upload import Uploaded, Uploader, UploadError
from leruli_node.files.walk import NOT_UPLOADED, Skipped, shown, walk
from leruli_node.images.names import etag_name, published_versions
from leruli_node.model import AttemptId
from leruli_node.objects.job_bucket import JobBucket
from leruli_node.objects.object_store import (
    LARGEST,
    MARK,
    ListedObject,
    NotFoundError,
    ObjectStore,
    StoreUnavailableError,
    UnstorableError,
    WriteGuard,
)
from leruli_node.objects.upload_lease import UploadLease
from leruli_node.retry import Stop

ATTEMPT = AttemptId("00000000-0000-4000-8000-000000000002", 2)
NOW = datetime.now(UTC)


class MemoryStore(ObjectStore):
    """Objects in memory, with faults on demand. All but run.tgz are of the job's first attempt."""

    def __init__(self) -> None:
        self.content: dict[str, bytes] = {"run.tgz": b"input"}
        self.marks: dict[str, str | None] = {}
        self.fail: dict[str, list[Exception]] = {}

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
        content = b""
        while size < 0 and (piece := data.read(1000)):
            content += piece
        while len(content) < size:
            content += data.read(min(1000, size - len(content)))
        if self.fail.get(name):
            raise self.fail[name].pop(0)
        assert data.read(1) == b""
        self.content[name] = content
        self.marks[name] = metadata[MARK]

    def objects(self, bucket: str, prefix: str = "") -> Iterator[ListedObject]:
        return iter([ListedObject(n, NOW) for n in sorted(self.content) if n.startswith(prefix)])

    def mark(self, bucket: str, name: str) -> str | None:
        if name not in self.content:
            raise NotFoundError(bucket=False)
        return self.marks.get(name, f"{ATTEMPT.job}x1")

    def remove(self, bucket: str, names: list[str], guard: WriteGuard) -> None:
        guard.wait()
        for name in names:
            del self.content[name]


def job_bucket(store: ObjectStore, stop: Stop) -> JobBucket:
    """The bucket of the second attempt, with a lease that is granted whenever it is asked for."""
    lease = UploadLease(lambda _: None, stop)
    lease.renew()
    return JobBucket(store, "b", ATTEMPT, lease)


def make(tmp_path: Path) -> Path:
    (tmp_path / "joblog.txt").write_text("log")
    (tmp_path / "joberr.txt").write_text("error without line end")
    (tmp_path / "run.sh").write_text("true")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "x").write_bytes(b"x" * 5000)
    return tmp_path


def upload(
    store: ObjectStore,
    top: Path | None,
    sentence: str | None = None,
    retry_for_s: float = 5.0,
    max_bytes: int = 10**15,
    max_files: int = 10_000,
) -> Uploaded:
    stop = threading.Event()
    lease = UploadLease(lambda _: None, stop)
    bucket = JobBucket(store, "b", ATTEMPT, lease)
    with lease.renewed({}):
        return Uploader(2, retry_for_s, max_bytes, max_files).upload(bucket, top, sentence, stop)


def test_all_but_the_reserved(tmp_path: Path) -> None:
    store = MemoryStore()
    store.content["left/over"] = b"of an earlier attempt"
    done = upload(store, make(tmp_path))
    assert store.content == {
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
    assert done.notes == ["in leruli-more.tar.gz: 1 links: l"]
    assert store.content["joberr.txt"] == (
        b"error without line end\nleruli: it ended badly\n"
        b"leruli: in leruli-more.tar.gz: 1 links: l\n"
    )
    assert done.summary == "in leruli-more.tar.gz: 1 links; joberr.txt has the names"
    # Nothing was changed on disk, so that it can be done again.
    assert (tmp_path / "joberr.txt").read_text() == "error without line end"


def test_tries_again(tmp_path: Path) -> None:
    store = MemoryStore()
    store.fail = {"d/x": [StoreUnavailableError("1")], "joberr.txt": [StoreUnavailableError("2")]}
    assert upload(store, make(tmp_path), "why").files == 3
    assert store.content["d/x"] == b"x" * 5000
    assert store.content["joberr.txt"] == b"error without line end\nleruli: why\n"


def test_patience_ends(tmp_path: Path) -> None:
    store = MemoryStore()
    store.fail = {
        "d/x": [StoreUnavailableError("no")] * 100,
        "joberr.txt": [StoreUnavailableError("no")] * 100,
    }
    with pytest.raises(UploadError, match="in time"):
        upload(store, make(tmp_path), retry_for_s=0.5)


def test_bucket_gone(tmp_path: Path) -> None:
    store = MemoryStore()
    store.fail = {"d/x": [NotFoundError(True)]}
    with pytest.raises(UploadError, match="bucket"):
        upload(store, make(tmp_path))


def test_one_file_that_the_store_refuses(tmp_path: Path) -> None:
    store = MemoryStore()
    store.fail = {"d/x": [UnstorableError("KeyTooLongError")]}
    done = upload(store, make(tmp_path))
    assert done.notes == ["in leruli-more.tar.gz: 1 files that the store refuses: d/x"]
    assert more(store) == {"d/x": b"x" * 5000}
    assert done.files == 3


def test_an_earlier_object_that_the_store_does_not_replace_goes_first(tmp_path: Path) -> None:
    """H8: what an earlier attempt had written stayed as a result of this one."""
    store = MemoryStore()
    store.content["d/x"] = b"of an earlier attempt"
    store.fail = {"d/x": [UnstorableError("KeyTooLongError")]}
    done = upload(store, make(tmp_path))
    assert store.content["d/x"] == b"x" * 5000
    assert (done.files, done.notes) == (3, [])


def test_stop(tmp_path: Path) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(StoppedError):
        Uploader(2, 5.0, 10**9).upload(job_bucket(MemoryStore(), stop), make(tmp_path), None, stop)


def test_without_a_container(tmp_path: Path) -> None:
    store = MemoryStore()
    store.content["old"] = b""
    upload(store, None, "image psi4:1.6 is not published")
    assert store.content == {
        "run.tgz": b"input",
        "old": b"",
        "joberr.txt": b"leruli: image psi4:1.6 is not published\n",
    }


def test_walk_is_bounded(tmp_path: Path) -> None:
    """H2, H10: folders in folders are looked into only so deep, and too deep ones are told."""
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
    assert list(skipped.by_reason) == ["folders below 250 others, with all in them"]


def more(store: MemoryStore) -> dict[str, bytes | str]:
    """What is in the archive of the rest: content of files, targets of links."""
    found: dict[str, bytes | str] = {}
    with tarfile.open(fileobj=io.BytesIO(store.content[NAME])) as archive:
        for member in archive:
            assert (member.uid, member.gid, member.uname, member.gname) == (0, 0, "", "")
            content = archive.extractfile(member) if member.isreg() else None
            found[member.name] = content.read() if content else member.linkname
    return found


def test_what_is_no_object_is_in_one_archive(tmp_path: Path) -> None:
    """H10: links, odd names, reserved names, long paths, and files beyond the number of objects."""
    make(tmp_path)
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
        f"in {NAME}: 1 files whose names are not UTF-8: bad\\xff",
        f"in {NAME}: 1 files with a path longer than 1024 bytes: {long[:120]}",
        f"in {NAME}: 1 files with a reserved name: run.tgz",
        f"in {NAME}: 1 links: z",
        "not uploaded, and gone with the job's folder: 1 pipes, sockets or devices: pipe",
    ]
    assert store.content["joberr.txt"].endswith(b"devices: pipe\n")
    assert done.files == 10


def test_the_archive_takes_no_name_of_a_result(tmp_path: Path) -> None:
    """H10: a file of the archive's name, perhaps of the input, is a result like any other."""
    (make(tmp_path) / NAME).write_bytes(b"mine")
    (tmp_path / "l").symlink_to("x")
    store = MemoryStore()
    assert upload(store, tmp_path).notes == ["in leruli-more-2.tar.gz: 1 links: l"]
    assert store.content[NAME] == b"mine"
    assert "leruli-more-2.tar.gz" in store.content


def test_the_archive_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """H10: of very many names a bounded number is kept and looked at; how many are not is said."""
    monkeypatch.setattr(upload_module, "_REST_FACTOR", 2)
    for number in range(20):
        (make(tmp_path) if number == 0 else tmp_path / f"g{number}").touch()
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
    (make(tmp_path) / "l").symlink_to("x")
    store = MemoryStore()
    store.fail = {NAME: [StoreUnavailableError("1")]}
    assert upload(store, tmp_path).files == 4
    assert more(store) == {"l": "x"}


def test_a_job_with_large_files_does_not_hold_up_another(tmp_path: Path) -> None:
    """Memory for uploads is shared in the order of asking, and large files have their own part."""
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
        done = uploader.upload(job_bucket(store, go_on), make(tmp_path / "b"), None, go_on)
        assert done.files == 3
        assert large.is_alive()
    finally:
        stop.set()
        large.join(30)


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


def exhaust(held: list[int]) -> None:
    while True:
        held.append(os.open("/dev/null", os.O_RDONLY))


def test_out_of_descriptors_is_not_unreadable(tmp_path: Path) -> None:
    for number in range(30):
        (make(tmp_path) if number == 0 else tmp_path / f"f{number}").touch()
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


def test_a_disk_that_fails_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, faults = os.open, [errno.EIO, errno.ENOMEM]

    def failing(path: str, flags: int, *args: int, **more: int) -> int:
        if path == "x" and faults:
            raise OSError(faults.pop(), "the disk")
        return real(path, flags, *args, **more)

    monkeypatch.setattr(os, "open", failing)
    store = MemoryStore()
    assert upload(store, make(tmp_path)).notes == []
    assert store.content["d/x"] == b"x" * 5000
    faults += [errno.EIO] * 1000
    with pytest.raises(UploadError, match="disk"):
        upload(store, tmp_path, retry_for_s=0.2)
    faults[:] = [errno.EACCES, errno.EACCES]
    assert upload(store, tmp_path).notes == [
        "not uploaded, and gone with the job's folder: 1 unreadable files: d/x"
    ]


def test_what_only_the_second_look_finds_unreadable_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, looks = os.open, []

    def failing(path: str, flags: int, *args: int, **more: int) -> int:
        if path == "x":
            looks.append(path)
            if len(looks) > 1:
                raise OSError(errno.EACCES, "no")
        return real(path, flags, *args, **more)

    monkeypatch.setattr(os, "open", failing)
    assert upload(MemoryStore(), make(tmp_path)).notes == [
        "not uploaded, and gone with the job's folder: 1 unreadable files: d/x"
    ]


def test_names_that_a_listing_cannot_carry(tmp_path: Path) -> None:
    for name in ("a\x01", "b\n", "c\x7f", "d\uffff"):
        (make(tmp_path) if name == "a\x01" else tmp_path).joinpath(name).touch()
    store = MemoryStore()
    (note,) = upload(store, tmp_path).notes
    assert note.startswith(
        "in leruli-more.tar.gz: 4 files with control characters in their names: a\\x01"
    )
    assert set(store.content) == {"run.tgz", "joblog.txt", "joberr.txt", "d/x", NAME}
    assert set(more(store)) == {"a\x01", "b\n", "c\x7f", "d\uffff"}


def test_too_much_output_keeps_the_small_files(tmp_path: Path) -> None:
    with (make(tmp_path) / "sparse").open("wb") as file:
        file.truncate(LARGEST + 1)
    (tmp_path / "small").write_bytes(b"s")
    store = MemoryStore()
    done = upload(store, tmp_path, max_bytes=5000)
    assert set(store.content) == {"run.tgz", "joblog.txt", "joberr.txt", "small"}
    assert done.notes == [
        f"{NOT_UPLOADED}: 1 files beyond the 0 MB of output of a job: d/x",
        "not uploaded, and gone with the job's folder: 1 files of more than 625 GB: sparse",
    ]
    assert b"sparse" in store.content["joberr.txt"]


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


def test_stop_is_heard_within_a_file(tmp_path: Path) -> None:
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


def test_joined_reads_again(tmp_path: Path) -> None:
    from leruli_node.files.output_file import OutputFile

    joined = OutputFile(io.BytesIO(b"abc"), 3, b"de", threading.Event())
    for size in (1, 2, 3, 4, 5, 9):
        joined.seek(0)
        parts = []
        while part := joined.read(size):
            parts.append(part)
        assert b"".join(parts) == b"abcde"
