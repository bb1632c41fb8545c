"""The group's S3 store: reads streams, writes files, lists and removes objects."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO
from urllib.parse import urlsplit

import certifi
import urllib3
from minio import Minio
from minio.deleteobjects import DeleteObject
from urllib3.connection import HTTPConnection

from leruli_node.errors import describe
from leruli_node.objects.guarded_pool import GuardedPool, WriteGuard
from leruli_node.objects.small_requests import ListedObject, SmallRequests, is_plain
from leruli_node.objects.store_errors import (
    MISSING,
    StoreUnavailableError,
    UnstorableError,
    map_minio_errors,
)

CHUNK = 2**20
# User metadata: the attempt that wrote the object.
MARK = "leruli-attempt"
# User metadata: facts of the file, which the client restores when it fetches the object.
_MODE = "leruli-mode"
_MTIME = "leruli-mtime"
# After this time the kernel drops unacknowledged data. It must not arrive when the network is back
# and another node writes to the bucket.
_UNACKNOWLEDGED_S = 15
_PART = 16 * 2**20
# A part is held in memory. A store accepts at most 10,000 parts for an object.
_LARGEST_PART = 64 * 2**20
_MOST_PARTS = 10_000
LARGEST = _MOST_PARTS * _LARGEST_PART
# Larger objects are left to the SDK: their bytes cost more than its own work.
_SMALL = 2**20


@dataclass(frozen=True)
class FileFacts:
    """Facts that S3 does not store of a file: permission bits, and mtime in ns since 1970."""

    mode: int
    mtime_ns: int

    def metadata(self) -> dict[str, str]:
        """Return the facts as user metadata of the file's object."""
        return {_MODE: f"{self.mode & 0o777:o}", _MTIME: str(self.mtime_ns)}


@dataclass(frozen=True)
class Stream:
    """An object that is being read."""

    etag: str
    size: int
    _response: urllib3.BaseHTTPResponse

    def chunks(self) -> Iterator[bytes]:
        """Yield the bytes, about 1 MB at a time.

        Raises
        ------
        StoreUnavailableError
            The connection broke.
        """
        try:
            yield from self._response.stream(CHUNK, decode_content=False)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise StoreUnavailableError(describe(error)) from None


class ObjectStore:
    """The group's store. Safe for several threads. All methods raise errors of store_errors.py."""

    def __init__(
        self,
        server: str,
        access: str,
        secret: str,
        region: str | None = None,
        connections: int = 16,
    ) -> None:
        """Build a client.

        Without a `region` the store is asked for it once for each bucket, so for each job.
        """
        parts = urlsplit(server)
        # No retries here: the callers retry, and can be interrupted.
        self._http = GuardedPool(
            timeout=urllib3.Timeout(connect=10.0, read=120.0),
            retries=urllib3.Retry(total=0, redirect=2),
            maxsize=connections,
            cert_reqs="CERT_REQUIRED",
            ca_certs=_ca_file(),
            socket_options=[
                *HTTPConnection.default_socket_options,
                (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNACKNOWLEDGED_S * 1000),
            ],
        )
        self._client = Minio(
            parts.netloc,
            access_key=access,
            secret_key=secret,
            secure=parts.scheme == "https",
            region=region,
            http_client=self._http,
        )
        # Use no bucket name as a host name. DNS look-ups are not encrypted, and the name of the
        # image bucket contains the group token.
        self._client.disable_virtual_style_endpoint()  # type: ignore[no-untyped-call]
        # A signature needs the region. Where it is not told, the SDK asks for it.
        self._small = SmallRequests(server, access, secret, region, self._http) if region else None

    def etag(self, bucket: str, name: str) -> str:
        """Return the ETag of an object."""
        with map_minio_errors():
            return str(self._client.stat_object(bucket, name).etag or "").strip('"')

    @contextmanager
    def read(self, bucket: str, name: str) -> Iterator[Stream]:
        """Open an object for reading."""
        with map_minio_errors():
            small = self._small if is_plain(bucket, name) else None
            response = small.read(bucket, name) if small is not None else None
            if response is None:
                response = self._client.get_object(bucket, name)
        try:
            etag = response.headers.get("ETag", "").strip('"')
            yield Stream(etag, int(response.headers.get("Content-Length", "0")), response)
        finally:
            response.close()
            response.release_conn()

    def names(self, bucket: str, prefix: str = "") -> list[str]:
        """Return the names of all objects whose names begin with `prefix`."""
        with map_minio_errors():
            found = self._client.list_objects(bucket, prefix=prefix or None, recursive=True)
            return [item.object_name for item in found if item.object_name]

    def objects(self, bucket: str, prefix: str = "") -> Iterator[ListedObject]:
        """Yield all objects whose names begin with `prefix`, page by page in bounded memory."""
        with map_minio_errors():
            small = self._small if is_plain(bucket) else None
            listed = small.list(bucket, prefix) if small is not None else None
            if listed is not None:
                yield from listed
                return
            for item in self._client.list_objects(bucket, prefix=prefix or None, recursive=True):
                if item.object_name:
                    yield ListedObject(item.object_name, item.last_modified, item.size or 0)

    def mark(self, bucket: str, name: str) -> str | None:
        """Return the attempt in an object's metadata, None if there is none."""
        with map_minio_errors():
            metadata = self._client.stat_object(bucket, name).metadata or {}
        return metadata.get(f"x-amz-meta-{MARK}")

    def write(
        self,
        bucket: str,
        name: str,
        data: BinaryIO,
        size: int,
        metadata: dict[str, str],
        guard: WriteGuard,
    ) -> None:
        """Store `size` bytes. Large objects are sent in parts, to use little memory.

        Each request waits for the guard, and is aborted when the guard says so.
        """
        if size > LARGEST:
            raise UnstorableError("too large")
        with map_minio_errors(), self._http.guarded(guard):
            if 0 <= size <= _SMALL and self._has_written(bucket, name, data, size, metadata):
                return
            # In this thread only: the guard is bound to it.
            self._client.put_object(
                bucket,
                name,
                data,
                size,
                metadata=dict(metadata),
                part_size=part_bytes(size),
                num_parallel_uploads=1,
            )

    def _has_written(
        self, bucket: str, name: str, data: BinaryIO, size: int, metadata: dict[str, str]
    ) -> bool:
        """Store a small object. Return False, with `data` at its start, if the SDK has to."""
        if self._small is None or not is_plain(bucket, name):
            return False
        content = b""
        while len(content) < size and (piece := data.read(size - len(content))):
            content += piece
        if len(content) == size and self._small.write(bucket, name, content, metadata):
            return True
        data.seek(0)
        return False

    def remove(self, bucket: str, names: list[str], guard: WriteGuard) -> None:
        """Remove objects. Missing ones are no error."""
        with map_minio_errors(), self._http.guarded(guard):
            for error in self._client.remove_objects(bucket, map(DeleteObject, names)):
                if error.code not in MISSING:
                    raise StoreUnavailableError(str(error.code))

    def close(self) -> None:
        """Close the connections."""
        self._http.clear()


def part_bytes(size: int) -> int:
    """Return the size in bytes of the parts in which an object of this size is sent.

    The client uses the same rule to check what it fetched by its ETag (leruli/storage/etag.py).
    """
    return max(_PART, -(-size // (_MOST_PARTS * 2**20)) * 2**20)


def _ca_file() -> str | None:
    return os.environ.get("SSL_CERT_FILE") or certifi.where()
