"""The group's S3 store: streams in, files out, and which errors pass with time."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, BinaryIO, Protocol
from urllib.parse import parse_qs, urlsplit
from xml.etree.ElementTree import ParseError

import certifi
import urllib3
from minio import Minio
from minio.deleteobjects import DeleteObject
from minio.error import InvalidResponseError, MinioException, S3Error, ServerError
from urllib3.connection import HTTPConnection

from leruli_node.errors import describe

CHUNK = 2**20
# User metadata that tells which attempt wrote an object.
MARK = "leruli-attempt"
# And what the file was; the client gives it to the file that it fetches.
_MODE = "leruli-mode"
_MTIME = "leruli-mtime"
# The kernel gives up after so long what the store has not acknowledged: it must not arrive when the
# network is mended and another node has the bucket.
_UNACKNOWLEDGED_S = 15
_PART = 16 * 2**20
# A part is held in memory; a store takes at most 10,000 of them.
_LARGEST_PART = 64 * 2**20
_MOST_PARTS = 10_000
LARGEST = _MOST_PARTS * _LARGEST_PART
_MISSING = frozenset({"NoSuchKey", "NoSuchBucket", "ResourceNotFound", "NotFound"})
# How minio begins to say that an answer is not S3's: a proxy's page, for instance. Every other
# ValueError of its is about a name.
_NONSENSE = ("XML element", "time data", "invalid literal")
# About the name or size of one object: sending it again cannot help.
_UNSTORABLE = frozenset(
    {
        "KeyTooLongError",
        "InvalidObjectName",
        "XMinioInvalidObjectName",
        "InvalidArgument",
        "InvalidURI",
        "EntityTooLarge",
        "ObjectParentIsFile",
        "ExistingObjectIsDirectory",
    }
)


class StoreUnavailableError(Exception):
    """The store cannot be reached, or refuses for now; later it may not."""


class StoreRefusedError(StoreUnavailableError):
    """The store does not let this key, or this clock, do that; `code` is S3's word for it."""

    def __init__(self, code: str) -> None:
        super().__init__(f"it refuses this node ({code})")
        self.code = code


class NotFoundError(Exception):
    """There is no such object; `bucket` tells whether even the bucket is missing."""

    def __init__(self, bucket: bool) -> None:
        super().__init__("no such bucket" if bucket else "no such object")
        self.bucket = bucket


class UnstorableError(Exception):
    """The store takes no object of this name or size."""


class WriteGuard(Protocol):
    """What says whether this node may write now."""

    def wait(self) -> None:
        """Return when a request that writes may be sent; raises StoppedError."""

    def check(self) -> None:
        """Raise when a request that is being sent has to break off."""


@dataclass(frozen=True)
class ListedObject:
    """An object as a listing shows it."""

    name: str
    modified: datetime | None


@dataclass(frozen=True)
class FileFacts:
    """What S3 does not keep of a file: permission bits, and its time in nanoseconds since 1970."""

    mode: int
    mtime_ns: int

    def metadata(self) -> dict[str, str]:
        """As user metadata of its object."""
        return {_MODE: f"{self.mode & 0o777:o}", _MTIME: str(self.mtime_ns)}


@dataclass(frozen=True)
class Stream:
    """An object that is being read."""

    etag: str
    size: int
    _response: urllib3.BaseHTTPResponse

    def chunks(self) -> Iterator[bytes]:
        """The bytes, about a megabyte at a time.

        Raises StoreUnavailableError when the connection breaks.
        """
        try:
            yield from self._response.stream(CHUNK, decode_content=False)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise StoreUnavailableError(describe(error)) from None


class ObjectStore:
    """The store, with the group's key; safe to use from several threads."""

    def __init__(
        self,
        server: str,
        access: str,
        secret: str,
        region: str | None = None,
        connections: int = 16,
    ) -> None:
        """Without a `region` the store is asked for each bucket's, once a bucket: once a job."""
        parts = urlsplit(server)
        # No retries below: the caller retries, and can be interrupted.
        self._http = _GuardedPool(
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
        # A bucket's name must not be a host's: names are looked up in the clear, and the bucket of
        # images is named after the group token.
        self._client.disable_virtual_style_endpoint()  # type: ignore[no-untyped-call]

    def etag(self, bucket: str, name: str) -> str:
        """The ETag of an object."""
        with _translated():
            return str(self._client.stat_object(bucket, name).etag or "").strip('"')

    @contextmanager
    def read(self, bucket: str, name: str) -> Iterator[Stream]:
        """Open an object for reading."""
        with _translated():
            response = self._client.get_object(bucket, name)
        try:
            etag = response.headers.get("ETag", "").strip('"')
            yield Stream(etag, int(response.headers.get("Content-Length", "0")), response)
        finally:
            response.close()
            response.release_conn()

    def names(self, bucket: str, prefix: str = "") -> list[str]:
        """The names of all objects (that begin with `prefix`)."""
        with _translated():
            found = self._client.list_objects(bucket, prefix=prefix or None, recursive=True)
            return [item.object_name for item in found if item.object_name]

    def objects(self, bucket: str, prefix: str = "") -> Iterator[ListedObject]:
        """All objects (that begin with `prefix`), page by page in bounded memory."""
        with _translated():
            for item in self._client.list_objects(bucket, prefix=prefix or None, recursive=True):
                if item.object_name:
                    yield ListedObject(item.object_name, item.last_modified)

    def mark(self, bucket: str, name: str) -> str | None:
        """The attempt that wrote an object, as it says itself; None if it does not."""
        with _translated():
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
        """Store `size` bytes; big objects in parts, so that little memory is used.

        Each request waits for the guard, and breaks off when that says so.
        """
        if size > LARGEST:
            raise UnstorableError("too large")
        with _translated(), self._http.guarded(guard):
            # In this thread alone, which is the one that the guard is kept for.
            self._client.put_object(
                bucket,
                name,
                data,
                size,
                metadata=dict(metadata),
                part_size=part_bytes(size),
                num_parallel_uploads=1,
            )

    def remove(self, bucket: str, names: list[str], guard: WriteGuard) -> None:
        """Remove objects; those that are gone are no error."""
        with _translated(), self._http.guarded(guard):
            for error in self._client.remove_objects(bucket, map(DeleteObject, names)):
                if error.code not in _MISSING:
                    raise StoreUnavailableError(str(error.code))

    def close(self) -> None:
        """Close the connections."""
        self._http.clear()


def part_bytes(size: int) -> int:
    """How large the parts are in which an object of so many bytes is sent.

    The client has the same rule, to know what it fetched by its ETag (leruli/content.py).
    """
    return max(_PART, -(-size // (_MOST_PARTS * 2**20)) * 2**20)


class _GuardedPool(urllib3.PoolManager):
    """Sends no request that changes the store but under a guard."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._own = threading.local()

    @contextmanager
    def guarded(self, guard: WriteGuard) -> Iterator[None]:
        """Allow this thread to write within the block, under the guard."""
        self._own.guard = guard
        try:
            yield
        finally:
            del self._own.guard

    def urlopen(  # type: ignore[override]
        self, method: str, url: str, redirect: bool = True, **more: Any
    ) -> urllib3.BaseHTTPResponse:
        if method not in ("GET", "HEAD") and not _ends_own_upload(method, url):
            guard: WriteGuard | None = getattr(self._own, "guard", None)
            if guard is None:
                raise RuntimeError("the agent writes to the store only under a lease")
            guard.wait()
            body = more.get("body")
            if isinstance(body, bytes) and body:
                more["body"] = _GuardedBody(body, guard)
            elif isinstance(body, _GuardedBody):  # sent on, by a redirection
                body.seek(0)
        return super().urlopen(method, url, redirect=redirect, **more)


def _ends_own_upload(method: str, url: str) -> bool:
    # Of an upload in parts that appears nowhere; nobody else knows its id.
    return method == "DELETE" and "uploadId" in parse_qs(urlsplit(url).query)


class _GuardedBody:
    """A request's body that is read piece by piece, as long as the guard lets it."""

    def __init__(self, body: bytes, guard: WriteGuard) -> None:
        self._body = memoryview(body)
        self._guard = guard
        self._at = 0

    def read(self, size: int | None = None) -> bytes:
        self._guard.check()
        end = len(self._body) if size is None or size < 0 else self._at + size
        piece = self._body[self._at : end]
        self._at += len(piece)
        return bytes(piece)

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int) -> None:
        self._at = offset


def _ca_file() -> str | None:
    return os.environ.get("SSL_CERT_FILE") or certifi.where()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except S3Error as error:
        if error.code in _MISSING:
            raise NotFoundError(error.code == "NoSuchBucket") from None
        if error.code in _UNSTORABLE:
            raise UnstorableError(error.code) from None
        if getattr(error.response, "status", None) in (401, 403):
            raise StoreRefusedError(str(error.code)[:60]) from None
        raise StoreUnavailableError(describe(error)) from None
    except (
        InvalidResponseError,
        ServerError,
        MinioException,
        urllib3.exceptions.HTTPError,
        OSError,
        ParseError,
    ) as error:
        raise StoreUnavailableError(describe(error)) from None
    except ValueError as error:
        if isinstance(error, UnicodeDecodeError) or str(error).startswith(_NONSENSE):
            raise StoreUnavailableError("its answer is not S3's") from None
        raise UnstorableError("the name is not allowed") from None
