"""Property tests of the uploader with a real S3 server: any folder, any bucket."""

from __future__ import annotations

import io
import os
import re
import socket
import subprocess
import tarfile
import tempfile
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from minio import Minio
from objects_world import S3Server, running_objects
from property_world import search, searching

from leruli_node.files.upload import Uploaded, Uploader
from leruli_node.model import AttemptId
from leruli_node.objects.job_bucket import JobBucket
from leruli_node.objects.object_store import MARK, ObjectStore
from leruli_node.objects.upload_lease import UploadLease

JOB, OTHER = "01a20e9c-0000-7000-8000-000000000001", "01a20e9c-0000-7000-8000-000000000002"
ATTEMPT = AttemptId(JOB, 2)
OUTSIDE = b"nobody of the job may read this"
SENTENCE = "it ended badly"
LOGS = ("joblog.txt", "joberr.txt")

PARTS = (
    *(b"a", b"b", b"c", b"out", b"joblog.txt", b"joberr.txt", b"run.sh", b"run.tgz"),
    *(
        "ä".encode(),
        "o\u0308".encode(),
        b" ",
        b"-rf",
        b"a b",
        b"a\\b",
        b"%2e",
        b"a+b",
        b"#",
        b"?&=",
    ),
    *(b"bad\xff", b"new\nline", b"\x01", b"\x7f", "\u202e".encode(), b"...", b"..a", b"n" * 255),
)
KINDS = ("file", "file", "file", "file", "folder", "link", "loop", "hard", "pipe", "socket")


@dataclass(frozen=True)
class Thing:
    """One file, folder or link that a job left."""

    parts: tuple[bytes, ...]
    kind: str
    content: bytes


THINGS = st.lists(
    st.builds(
        Thing,
        parts=st.lists(st.sampled_from(PARTS), min_size=1, max_size=4).map(tuple),
        kind=st.sampled_from(KINDS),
        content=st.binary(max_size=100),
    ),
    max_size=10,
)
# Who wrote what is in the bucket before: by name.
WRITERS = {
    "an earlier attempt": f"{JOB}x1",
    "this attempt": f"{JOB}x2",
    "a later attempt": f"{JOB}x3",
    "another job": f"{OTHER}x1",
    "somebody": None,
    "a liar": f"{JOB}x1x",
}
BEFORE = st.dictionaries(
    st.lists(st.sampled_from(("a", "b", "out", "raw", *LOGS)), min_size=1, max_size=2).map(
        "/".join
    ),
    st.tuples(st.sampled_from(sorted(WRITERS)), st.binary(max_size=20)),
    max_size=5,
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with running_objects(tmp_path_factory.mktemp("upload-s3")) as made:
        yield made


def build(top: Path, things: list[Thing]) -> dict[str, bytes]:
    """Make the things as far as they go together; the regular files of the folder."""
    first = None
    for thing in things:
        path = top.joinpath(*map(os.fsdecode, thing.parts))
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            if thing.kind == "file":
                with path.open("xb") as file:
                    file.write(thing.content)
                first = first or path
            elif thing.kind == "folder":
                path.mkdir()
            elif thing.kind in ("link", "loop"):
                path.symlink_to(top.parent / "outside" if thing.kind == "link" else ".")
            elif thing.kind == "hard" and first is not None:
                path.hardlink_to(first)
            elif thing.kind == "pipe":
                os.mkfifo(path)
            elif thing.kind == "socket":
                with socket.socket(socket.AF_UNIX) as made:
                    made.bind(os.fsencode(path))
    found = {}
    for folder, _, names in os.walk(top):
        for path in (Path(folder, name) for name in names):
            if path.is_file() and not path.is_symlink():
                found[str(path.relative_to(top))] = path.read_bytes()
    return found


Held = dict[str, tuple[bytes, "str | None"]]


@dataclass
class Bucket:
    """A bucket of the real server as a test sees it: contents and marks."""

    store: ObjectStore
    # As its owners have it, who need no lease to write.
    owner: Minio
    name: str

    def put(self, key: str, content: bytes, mark: str | None) -> None:
        marks = {} if mark is None else {MARK: mark}
        self.owner.put_object(self.name, key, io.BytesIO(content), len(content), metadata=marks)

    def held(self) -> Held:
        found: Held = {}
        for key in self.store.names(self.name):
            with self.store.read(self.name, key) as stream:
                found[key] = (b"".join(stream.chunks()), self.store.mark(self.name, key))
        return found


@contextmanager
def bucket_of(server: S3Server) -> Iterator[Bucket]:
    store = ObjectStore(server.url, server.access, server.secret, "us-east-1")
    host, name = server.url.removeprefix("http://"), str(uuid.uuid4())
    owner = Minio(host, access_key=server.access, secret_key=server.secret, secure=False)
    owner.make_bucket(name)
    try:
        yield Bucket(store, owner, name)
    finally:
        store.close()
        subprocess.run(["rm", "-rf", "--", str(server.root / name)], check=True)


def upload(bucket: Bucket, rundir: Path) -> Uploaded:
    """As the agent does it for the second attempt, with a lease that is granted."""
    stop = threading.Event()
    lease = UploadLease(lambda _: None, stop)
    lease.renew()
    target = JobBucket(bucket.store, bucket.name, ATTEMPT, lease)
    return Uploader(2, 20.0, 10**9).upload(target, rundir, SENTENCE, stop)


def more_of(uploaded: dict[str, bytes], files: dict[str, bytes]) -> list[str]:
    """The name of the archive of what cannot be an object, where there is one."""
    return [key for key in uploaded if key.startswith("leruli-more") and key not in files]


def unpacked(archive: bytes) -> dict[str, bytes]:
    """The regular files of an archive; links are kept as links there."""
    found = {}
    with tarfile.open(fileobj=io.BytesIO(archive), errors="surrogateescape") as tar:
        for member in tar:
            assert member.isreg() or member.issym()
            file = tar.extractfile(member) if member.isreg() else None
            if file is not None:
                found[member.name] = file.read()
    return found


def check(files: dict[str, bytes], before: Held, after: Held, done: Uploaded) -> None:
    mine = ATTEMPT.key
    for key, (content, mark) in before.items():
        is_own = mark in (f"{JOB}x1", mine)
        if not is_own:
            assert after.get(key) == (content, mark), f"{key}, which is not the job's, was changed"
        elif key not in after:
            assert key not in files, f"{key} was deleted and is an output"
        else:
            assert after[key][1] == mine, f"{key} of an earlier attempt is still there"
    uploaded = {key: content for key, (content, mark) in after.items() if mark == mine}
    assert done.files == len(uploaded)
    [packed] = [unpacked(uploaded.pop(key)) for key in more_of(uploaded, files)] or [{}]
    for key, content in packed.items():
        assert files[key] == content, f"{key} in the archive is not what the job wrote"
    for key, content in uploaded.items():
        assert OUTSIDE not in content
        whole = files.get(key, b"" if key in LOGS else None)
        assert whole is not None, f"{key} is no output"
        if key == "joberr.txt":
            assert content.startswith(whole)
            assert SENTENCE.encode() in content
        else:
            assert content == whole, f"{key} is not what the job wrote"
    missing = [
        key for key in files if key not in uploaded and key not in packed and key != "run.sh"
    ]
    told = sum(int(number) for note in done.notes for number in re.findall(r": (\d+) ", note))
    assert len(missing) <= told, f"{missing} are neither uploaded nor mentioned in {done.notes}"
    for key in LOGS:
        # The store takes no file where it has a folder of somebody's objects.
        assert key in after or any(name.startswith(f"{key}/") for name in after)


@searching
def test_every_file_is_uploaded_or_told_of_and_nothing_foreign_is_changed(
    server: S3Server, tmp_path: Path
) -> None:
    """H7, H8: also beside objects of others, of a later attempt, and marks that are lies."""

    def holds(things: list[Thing], before: dict[str, tuple[str, bytes]]) -> None:
        with tempfile.TemporaryDirectory(dir=tmp_path) as folder, bucket_of(server) as bucket:
            (Path(folder) / "outside").write_bytes(OUTSIDE)
            rundir = Path(folder) / "r"
            rundir.mkdir()
            files = build(rundir, things)
            bucket.put("run.tgz", b"input", None)
            for key, (writer, content) in before.items():
                # The store does not take both a and a/b.
                with suppress(Exception):
                    bucket.put(key, content, WRITERS[writer])
            there = bucket.held()
            done = upload(bucket, rundir)
            check(files, there, bucket.held(), done)
            # It can be repeated, and then it is the same.
            again = upload(bucket, rundir)
            assert (again.files, again.bytes) == (done.files, done.bytes)

    # joberr.txt has the notes about all others, but none about itself.
    later_log = {"joberr.txt": ("a later attempt", b"")}
    # leruli-objects takes a name of 255 bytes, and refuses to replace the object.
    long = Thing((b"n" * 255,), "file", b"")
    known: list[dict[str, Any]] = [
        {"things": [Thing((b"joberr.txt",), "file", b"")], "before": later_log},
        {"things": [long], "before": {}},
        {"things": [long], "before": {"n" * 255: ("an earlier attempt", b"old")}},
    ]
    search(holds, examples=30, known=known, things=THINGS, before=BEFORE)
