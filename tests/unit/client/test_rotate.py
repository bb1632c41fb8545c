"""A rotation of the group token during an upload: FAKES of the queue and the storage."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from leruli.errors import BucketMissingError
from leruli.images.rotate import rotate
from leruli.storage.store import StoredObject


class Storage:
    """Buckets of images, without their content."""

    def __init__(self) -> None:
        self.buckets: dict[str, dict[str, StoredObject]] = {}

    def put(self, bucket: str, name: str, etag: str) -> None:
        made = StoredObject(name, 1, datetime.now(UTC), etag)
        self.buckets.setdefault(bucket, {})[name] = made

    def list(self, bucket: str) -> list[StoredObject]:
        if bucket not in self.buckets:
            raise BucketMissingError(bucket)
        return list(self.buckets[bucket].values())

    def make_bucket(self, bucket: str) -> None:
        self.buckets.setdefault(bucket, {})

    def copy(self, bucket: str, name: str, to: str) -> None:
        self.put(to, name, self.buckets[bucket][name].etag)

    def remove_bucket(self, bucket: str) -> None:
        del self.buckets[bucket]


class Queue:
    """A queue that is asked for its nodes at the moment when an upload ends."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.moved: list[str] = []

    def image_tokens(self) -> list[str]:
        return ["old"]

    def prepare_token(self) -> str:
        return "new"

    def begin_token(self, token: str) -> None:
        pass

    def nodes(self) -> list[dict[str, Any]]:
        self.storage.put("code-old", "late-1.tgz", "e2")
        return []

    def images_moved(self, token: str) -> None:
        self.moved.append(token)


def test_an_image_whose_upload_ends_during_the_rotation_is_not_deleted() -> None:
    """Issue 16, 2: its upload began with the old token, and it went with the old bucket."""
    storage: Any = Storage()
    storage.put("code-old", "psi4-1.tgz", "e1")
    queue: Any = Queue(storage)
    done = rotate(queue, storage, again=False, finish=False, notice=lambda _: None)
    assert done.is_finished
    assert queue.moved == ["new"]
    assert set(storage.buckets) == {"code-new"}
    assert sorted(storage.buckets["code-new"]) == ["late-1.tgz", "psi4-1.tgz"]
