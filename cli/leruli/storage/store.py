"""The group's object storage (S3): its buckets and objects."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any

import urllib3
from urllib3.exceptions import HTTPError

from leruli.errors import StorageError
from leruli.settings import StorageSettings
from leruli.storage.emptying import UNKNOWN_CALL, empty_bucket
from leruli.storage.errors import map_s3_errors, short
from leruli.storage.fast_put import FastPut
from leruli.storage.retry import StorageRetry
from leruli.storage.sdk import CopySource, Minio, S3Error
from leruli.storage.upload import MIB, Upload, part_bytes
from leruli.tls import tls_context
from leruli.wording import counted

_READ_SIZE = MIB
_TRIES = 3

# How a server says that it cannot copy. The last one is an old version of our own store:
# "source is larger than the maximum allowable size".
_CANNOT_COPY = UNKNOWN_CALL | {"InvalidRequest"}

# The prefix of headers that hold the metadata of an object.
_METADATA = "x-amz-meta-"


@dataclass(frozen=True)
class StoredObject:
    """An object in a bucket."""

    name: str
    size: int
    modified: datetime | None
    #: Depends on the content, and on the parts if the object was sent in parts.
    etag: str = ""


@dataclass(frozen=True)
class Downloaded:
    """What a download returned besides the content."""

    sha256: str  #: of the content, as hexadecimal digits
    #: What the uploader stored with it, by lower-case names.
    metadata: Mapping[str, str]


class Store:
    """A connection to the storage; safe for several threads."""

    def __init__(
        self,
        settings: StorageSettings,
        *,
        connections: int = 8,
        notice: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Connect on first use; up to `connections` threads may use it at the same time.

        `notice` takes a sentence when work that runs in `retry` has to wait.
        """
        context = tls_context(secure=settings.secure)
        pool = urllib3.PoolManager(
            maxsize=connections,
            timeout=urllib3.Timeout(connect=10, read=120),
            ssl_context=context,
            retries=urllib3.Retry(
                total=4, backoff_factor=0.3, status_forcelist=(500, 502, 503, 504)
            ),
        )
        self._host = settings.host
        self.retry = StorageRetry(settings.retry_for_s, notice)
        self._fast_put = FastPut(settings, context)
        self._minio = Minio(
            settings.host,
            access_key=settings.access,
            secret_key=settings.secret,
            secure=settings.secure,
            region=settings.region,
            http_client=pool,
        )
        # Never use the name of a bucket as a host name: DNS queries are not encrypted, and the
        # bucket of images has the group token in its name.
        self._minio.disable_virtual_style_endpoint()  # type: ignore[no-untyped-call]

    def make_bucket(self, bucket: str) -> None:
        """Make the bucket if there is none."""
        if self._fast_put.put(f"/{bucket}"):
            return
        with map_s3_errors(self._host, bucket):
            try:
                self._minio.make_bucket(bucket)
            except S3Error as error:
                if error.code not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
                    raise

    def has_bucket(self, bucket: str) -> bool:
        """Whether the bucket exists and may be used."""
        with map_s3_errors(self._host, bucket):
            return self._minio.bucket_exists(bucket)

    def find(self, bucket: str, name: str) -> StoredObject | None:
        """Return what is known of an object; None if there is no such object or bucket."""
        with map_s3_errors(self._host, bucket):
            try:
                found = self._minio.stat_object(bucket, name)
            except S3Error as error:
                if error.code not in ("NoSuchKey", "NoSuchBucket"):
                    raise
                return None
        return StoredObject(name, found.size or 0, found.last_modified)

    def put(self, bucket: str, name: str, content: bytes) -> None:
        """Store a small object in one request."""
        if self._fast_put.put(f"/{bucket}/{name}", content):
            return
        with map_s3_errors(self._host, bucket):
            self._minio.put_object(bucket, name, io.BytesIO(content), len(content))

    def put_into_new(self, bucket: str, name: str, content: bytes) -> None:
        """Make the bucket and store a small object in it, in one request if the storage can."""
        if not self._fast_put.put(f"/{bucket}/{name}", content, make_bucket=True):
            self.make_bucket(bucket)
            self.put(bucket, name, content)

    @contextlib.contextmanager
    def writing(self, bucket: str, name: str, expected_bytes: int = 0) -> Iterator[IO[bytes]]:
        """Yield a file that becomes the object, of any size and in bounded memory.

        The object appears when the block succeeds. If the block raises, Ctrl-C included, nothing
        appears and the parts sent so far are removed. `expected_bytes` is a hint for the size.
        """
        part_size = part_bytes(expected_bytes)
        read_end, write_end = os.pipe()
        sink = os.fdopen(write_end, "wb", buffering=_READ_SIZE)
        upload = Upload(self._minio, bucket, name, read_end, part_size)
        upload.start()
        try:
            yield sink
            sink.flush()
            upload.content_is_complete = True
            sink.close()
            upload.join()
        except BaseException as error:
            upload.content_is_complete = False
            with contextlib.suppress(OSError):
                sink.close()
            upload.join()
            if not isinstance(error, BrokenPipeError):
                raise
            # The upload ended first. Its own error says why.
        if upload.error is not None:
            with map_s3_errors(self._host, bucket):
                raise upload.error

    def list(self, bucket: str, prefix: str = "", after: str | None = None) -> list[StoredObject]:
        """Return all objects of the bucket by name; raises BucketMissingError.

        With `prefix` only those whose names begin so, with `after` only those after that name.
        """
        with map_s3_errors(self._host, bucket):
            return [
                StoredObject(
                    item.object_name,
                    item.size or 0,
                    item.last_modified,
                    (item.etag or "").strip('"'),
                )
                for item in self._minio.list_objects(
                    bucket, prefix or None, recursive=True, start_after=after
                )
                if item.object_name
            ]

    def content(self, bucket: str, name: str) -> bytes | None:
        """Return the content of a small object; None if there is no such object or bucket."""
        with map_s3_errors(self._host, bucket):
            try:
                response = self._minio.get_object(bucket, name)
            except S3Error as error:
                if error.code not in ("NoSuchKey", "NoSuchBucket"):
                    raise
                return None
            try:
                return response.read()
            finally:
                response.close()
                response.release_conn()

    def read(self, bucket: str, name: str, offset: int) -> Iterator[bytes]:
        """Yield the content of an object from `offset` on, in pieces.

        Raises StorageError if the connection breaks before the end.
        """
        reading, mapping = self._reading(bucket, name, offset), map_s3_errors(self._host, bucket)
        with reading as response, mapping:
            yield from response.stream(_READ_SIZE)

    def download(
        self, bucket: str, item: StoredObject, path: Path, advance: Callable[[int], None]
    ) -> Downloaded:
        """Write an object to the file `path`; `advance` takes the bytes as they arrive."""
        attempt = 0
        while True:
            attempt += 1
            done = 0
            digest = hashlib.sha256()
            try:
                with self._reading(bucket, item.name) as response, path.open("wb") as file:
                    for chunk in response.stream(_READ_SIZE):
                        file.write(chunk)
                        digest.update(chunk)
                        done += len(chunk)
                        advance(len(chunk))
                if done != item.size:
                    raise HTTPError(f"{done} of {counted(item.size, 'byte')} came")
                return Downloaded(digest.hexdigest(), _metadata(response.headers))
            except HTTPError as error:  # the connection broke in the middle
                advance(-done)
                if attempt == _TRIES:
                    raise StorageError(
                        f"Fetching {item.name} broke off {_TRIES} times ({short(error)}). Run the "
                        "same command again."
                    ) from None

    def copy(self, bucket: str, name: str, to: str) -> None:
        """Copy an object into another bucket. It appears complete or not at all.

        The storage copies it. If it cannot, the content passes through this machine.
        """
        with map_s3_errors(self._host, to):
            try:
                self._minio.copy_object(to, name, CopySource(bucket, name))
                return
            except S3Error as error:
                if error.code not in _CANNOT_COPY:
                    raise
        with self._reading(bucket, name) as response:
            size = int(response.headers.get("Content-Length", "0"))
            with self.writing(to, name, size) as sink:
                for chunk in response.stream(_READ_SIZE):
                    sink.write(chunk)

    def remove(self, bucket: str, name: str) -> None:
        """Remove an object if it exists."""
        with map_s3_errors(self._host, bucket):
            self._minio.remove_object(bucket, name)

    def remove_bucket(self, bucket: str) -> int:
        """Remove the bucket with everything in it; return the number of objects removed.

        All versions of objects and the parts of unfinished uploads are removed too.
        Raises BucketMissingError.
        """
        removed = 0
        with map_s3_errors(self._host, bucket):
            for attempt in range(1, _TRIES + 1):
                removed += empty_bucket(self._minio, bucket)
                try:
                    self._minio.remove_bucket(bucket)
                    break
                except S3Error as error:
                    # An upload that was still under way has added an object.
                    if error.code != "BucketNotEmpty" or attempt == _TRIES:
                        raise
        return removed

    @contextlib.contextmanager
    def _reading(self, bucket: str, name: str, offset: int = 0) -> Iterator[Any]:
        with map_s3_errors(self._host, bucket):
            response = self._minio.get_object(bucket, name, offset)
        try:
            yield response
        finally:
            response.close()
            response.release_conn()


def _metadata(headers: Mapping[str, str]) -> dict[str, str]:
    names = {name: name.lower() for name in headers}
    return {
        small[len(_METADATA) :]: headers[name]
        for name, small in names.items()
        if small.startswith(_METADATA)
    }
