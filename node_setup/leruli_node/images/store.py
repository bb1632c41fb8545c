"""The store of the group's images. Their bucket changes when the group token is rotated."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Protocol, TypeVar

from leruli_node.objects.object_store import Stream
from leruli_node.objects.store_errors import NotFoundError

log = logging.getLogger(__name__)

# A group token. Its key id is not secret.
_TOKEN = re.compile(r"lqg-([a-z2-7]{10})-[a-z2-7-]{20,60}\Z")

Found = TypeVar("Found")


class _Store(Protocol):
    def etag(self, bucket: str, name: str) -> str: ...

    def read(self, bucket: str, name: str) -> AbstractContextManager[Stream]: ...

    def names(self, bucket: str, prefix: str = "") -> list[str]: ...


class ImageStore:
    """Finds images in the buckets `code-<token>` of all tokens that may have one.

    Safe for several threads. The newest token comes first. Callers pass the bucket of the token in
    node.env. It is used only if the service, an older one, has sent no tokens: after the images
    moved, anybody who knows an expired token could take that bucket's name.
    """

    def __init__(self, store: _Store, hide: Callable[[str], None]) -> None:
        """Build the store. `hide` gets each token, which must not be logged."""
        self._store = store
        self._hide = hide
        self._lock = threading.Lock()
        self._tokens: list[str] = []

    def learn(self, tokens: object) -> None:
        """Take the tokens that the service answered. An empty answer changes nothing."""
        found = [one for one in _texts(tokens) if _TOKEN.match(one)]
        if not found:
            return
        for token in found:
            self._hide(token)
        with self._lock:
            is_new, self._tokens = self._tokens[:1] != found[:1], found
        if is_new:
            log.info("images are in a bucket of the group token", extra={"key": self.key_id()})

    def key_id(self) -> str | None:
        """Return the key id of the newest token, None if the service sent none."""
        with self._lock:
            match = _TOKEN.match(self._tokens[0]) if self._tokens else None
        return match[1] if match else None

    def newest(self, bucket: str) -> str:
        """Return the bucket of the newest token, the caller's bucket if the service sent none."""
        return self._buckets(bucket)[0]

    def etag(self, bucket: str, name: str) -> str:
        """Return the ETag of an image. Raises NotFoundError if no bucket has it."""
        return self._first(bucket, lambda one: self._store.etag(one, name))

    def read(self, bucket: str, name: str) -> AbstractContextManager[Stream]:
        """Open an image for reading. Raises NotFoundError if no bucket has it."""

        def found(one: str) -> str:
            self._store.etag(one, name)
            return one

        return self._store.read(self._first(bucket, found), name)

    def names(self, bucket: str, prefix: str = "") -> list[str]:
        """Return the names of all images that begin with `prefix`.

        Raises
        ------
        NotFoundError
            There is no bucket.
        """
        found: set[str] = set()
        missing: list[NotFoundError] = []
        buckets = self._buckets(bucket)
        for one in buckets:
            try:
                found.update(self._store.names(one, prefix))
            except NotFoundError as error:
                missing.append(error)
        if len(missing) == len(buckets):
            raise missing[0]
        return sorted(found)

    def _first(self, bucket: str, call: Callable[[str], Found]) -> Found:
        missing: list[NotFoundError] = []
        for one in self._buckets(bucket):
            try:
                return call(one)
            except NotFoundError as error:
                missing.append(error)
        # A bucket without the image is a better answer than no bucket at all.
        raise next((error for error in missing if not error.bucket), missing[0])

    def _buckets(self, bucket: str) -> list[str]:
        with self._lock:
            return [f"code-{token}" for token in self._tokens] or [bucket]


def _texts(values: object) -> Iterable[str]:
    return [one for one in values if isinstance(one, str)] if isinstance(values, list) else []
