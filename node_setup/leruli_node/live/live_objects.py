"""The live objects of one attempt: written once each, bounded in number and size, removed."""

from __future__ import annotations

import io
from collections import deque

from leruli_node.live.tail import Piece
from leruli_node.model import AttemptId
from leruli_node.objects.guarded_pool import WriteGuard
from leruli_node.objects.job_bucket import JobBucket
from leruli_node.objects.live_names import live_name, live_prefix, parse_live_name
from leruli_node.objects.object_store import MARK, ObjectStore

# When one is exceeded, the oldest objects go until a tenth is free. A page of a listing has 1,000.
_MOST_BYTES, _MOST_OBJECTS = 64_000_000, 1000
_FREED = 0.9


class LiveObjects:
    """The live objects in one bucket. One thread at a time uses it.

    Raises the errors of the store (store_errors.py), and StoppedError when `guard` forbids a write.
    """

    def __init__(
        self, store: ObjectStore, bucket: str, attempt: AttemptId, guard: WriteGuard
    ) -> None:
        self._store = store
        self._bucket = bucket
        self._attempt = attempt
        self._guard = guard
        # Stream, name and size of each object, the oldest first.
        self._kept: deque[tuple[str, str, int]] = deque()
        self._bytes = 0

    def adopt(self) -> dict[str, int]:
        """Take over what an earlier follower left. Return the end of each stream."""
        ends: dict[str, int] = {}
        self._kept.clear()
        self._bytes = 0
        bucket = JobBucket(self._store, self._bucket, self._attempt)
        for item in bucket.own_below(live_prefix(self._attempt)):
            parsed = parse_live_name(self._attempt, item.name)
            if parsed is not None:
                stream, offset = parsed
                self._keep(stream, item.name, item.size)
                ends[stream] = max(ends.get(stream, 0), offset + item.size)
        return ends

    def names(self) -> set[str]:
        """Return the names of all live objects that are known."""
        return {name for _, name, _ in self._kept}

    def write(self, stream: str, piece: Piece) -> None:
        """Store a piece. It can be repeated with the same piece."""
        if piece.begins_again:
            self._remove([one for one in self._kept if one[0] == stream])
        name, size = live_name(self._attempt, stream, piece.offset), len(piece.data)
        marked = {MARK: self._attempt.key}
        self._store.write(self._bucket, name, io.BytesIO(piece.data), size, marked, self._guard)
        self._keep(stream, name, size)
        if self._bytes > _MOST_BYTES or len(self._kept) > _MOST_OBJECTS:
            self._remove_oldest()

    def _keep(self, stream: str, name: str, size: int) -> None:
        self._kept.append((stream, name, size))
        self._bytes += size

    def _remove_oldest(self) -> None:
        old: list[tuple[str, str, int]] = []
        size = self._bytes
        for one in self._kept:
            is_free = size <= _MOST_BYTES * _FREED
            if is_free and len(self._kept) - len(old) <= _MOST_OBJECTS * _FREED:
                break
            old.append(one)
            size -= one[2]
        self._remove(old)

    def _remove(self, doomed: list[tuple[str, str, int]]) -> None:
        if not doomed:
            return
        self._store.remove(self._bucket, [name for _, name, _ in doomed], self._guard)
        gone = set(doomed)
        self._kept = deque(one for one in self._kept if one not in gone)
        self._bytes = sum(size for _, _, size in self._kept)


def remove_live_objects(
    store: ObjectStore, bucket: str, attempt: AttemptId, guard: WriteGuard, written: set[str]
) -> None:
    """Remove all live objects of an attempt that its node wrote. Raises the store's errors.

    `written` are those that are known, so that the store is not asked who wrote them.
    """
    own = JobBucket(store, bucket, attempt).own_below(live_prefix(attempt), written)
    names = [item.name for item in own]
    if names:
        store.remove(bucket, names, guard)
