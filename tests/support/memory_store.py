"""A FAKE of the store that keeps objects in memory, and uploads into it."""

from __future__ import annotations

import io
import tarfile
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from leruli_node.files.remainder import NAME
from leruli_node.files.upload import Uploaded, Uploader
from leruli_node.model import AttemptId
from leruli_node.objects.guarded_pool import WriteGuard
from leruli_node.objects.job_bucket import JobBucket
from leruli_node.objects.object_store import MARK, ObjectStore
from leruli_node.objects.small_requests import ListedObject
from leruli_node.objects.store_errors import NotFoundError
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
        found = sorted(name for name in self.content if name.startswith(prefix))
        return iter([ListedObject(name, NOW, len(self.content[name])) for name in found])

    def mark(self, bucket: str, name: str) -> str | None:
        if name not in self.content:
            raise NotFoundError(bucket=False)
        return self.marks.get(name, f"{ATTEMPT.job}x1")

    def remove(self, bucket: str, names: list[str], guard: WriteGuard) -> None:
        guard.wait()
        for name in names:
            del self.content[name]


def job_bucket(store: ObjectStore, stop: Stop) -> JobBucket:
    """Return the bucket of the second attempt, with a lease that is always granted."""
    lease = UploadLease(lambda _: None, stop)
    lease.renew()
    return JobBucket(store, "b", ATTEMPT, lease)


def make_rundir(tmp_path: Path) -> Path:
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


def more(store: MemoryStore) -> dict[str, bytes | str]:
    """Return the content of the archive of the rest: content of files, targets of links."""
    found: dict[str, bytes | str] = {}
    with tarfile.open(fileobj=io.BytesIO(store.content[NAME])) as archive:
        for member in archive:
            assert (member.uid, member.gid, member.uname, member.gname) == (0, 0, "", "")
            content = archive.extractfile(member) if member.isreg() else None
            found[member.name] = content.read() if content else member.linkname
    return found
