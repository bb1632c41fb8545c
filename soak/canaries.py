"""Buckets with a user's own files. Hostile submits name them, and nobody may change them."""

from __future__ import annotations

import hashlib
import io
import random
import time

from minio import Minio

from soak.plan import INPUT
from soak.stack import STORE_ERRORS

_BUCKETS = 6
_RETRY_FOR_S = 120.0


class Canaries:
    """Buckets that look like a group's archive. Half of them also hold a run.tgz."""

    def __init__(self, store: Minio, seed: int) -> None:
        self._store = store
        chance = random.Random(f"canaries {seed}")  # noqa: S311
        self.buckets = [f"archive-{chance.getrandbits(64):x}" for _ in range(_BUCKETS)]
        for number, bucket in enumerate(self.buckets):
            store.make_bucket(bucket)
            names = ["raw/2019.h5", "raw/2020.h5", "thesis.pdf", "joberr.txt", "joblog.txt"]
            for name in names + [INPUT] * (number % 2):
                content = chance.randbytes(2000)
                store.put_object(bucket, name, io.BytesIO(content), len(content))

    def read(self) -> dict[str, str]:
        """Return digest and time of the last write of each object, by bucket and name."""
        deadline = time.monotonic() + _RETRY_FOR_S
        while True:
            try:
                return {
                    f"{bucket}/{item.object_name}": self._digest(bucket, str(item.object_name))
                    + f" {item.last_modified}"
                    for bucket in self.buckets
                    for item in self._store.list_objects(bucket, recursive=True)
                }
            except STORE_ERRORS:
                if time.monotonic() > deadline:
                    raise
                time.sleep(1)

    def _digest(self, bucket: str, name: str) -> str:
        answer = self._store.get_object(bucket, name)
        try:
            return hashlib.sha256(answer.data).hexdigest()
        finally:
            answer.close()
            answer.release_conn()
