"""The group's object storage (S3).

The only importer of the minio SDK. Nothing of the SDK's exceptions passes: they become
`StorageError`, with a sentence for the cases that people meet.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any

import urllib3
from urllib3.exceptions import HTTPError, MaxRetryError, SSLError

from leruli.counting import counted
from leruli.deferred import deferred
from leruli.errors import BucketMissingError, LeruliError, StorageAwayError, StorageError
from leruli.patience import Patience
from leruli.quickput import QuickPut
from leruli.settings import StorageSettings
from leruli.trust import speaks_plain_http, tls_context

with deferred("minio.crypto", "decrypt", "encrypt"):
    from minio import Minio
    from minio.commonconfig import CopySource
    from minio.deleteobjects import DeleteObject
    from minio.error import MinioException, S3Error

MIB = 1024 * 1024

# A part is held in memory three times over while it is sent. S3 takes 10,000 parts an object.
_PART_SIZE = 16 * MIB
_MOST_PARTS = 9_000

_READ_SIZE = MIB
_TRIES = 3

# How a server says that it lacks versions or multipart uploads.
_UNKNOWN_CALL = frozenset({"NotImplemented", "MethodNotAllowed"})
# The second, of our own store before it could: "source is larger than the maximum allowable size".
_CANNOT_COPY = _UNKNOWN_CALL | {"InvalidRequest"}


class _NoRetryNotes(logging.Filter):
    """Bucket names are what protects the data in them; urllib3 would log them when it retries."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith("Retrying")


logging.getLogger("urllib3.connectionpool").addFilter(_NoRetryNotes())

# Headers of what is stored beside an object begin so.
_METADATA = "x-amz-meta-"


@dataclass(frozen=True)
class StoredObject:
    """An object in a bucket."""

    name: str
    size: int
    modified: datetime | None
    #: Of the content; another one for the same content where the storage computes it from parts.
    etag: str = ""


@dataclass(frozen=True)
class Downloaded:
    """What came of an object besides its content."""

    sha256: str  #: of the content, as hexadecimal digits
    #: What the uploader said about it, by names in small letters.
    metadata: Mapping[str, str]


class Store:
    """A connection to the storage, for use by several threads at once."""

    def __init__(
        self,
        settings: StorageSettings,
        *,
        connections: int = 8,
        notice: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Connect on first use; `connections` threads may use it at the same time.

        `notice` is told, in a sentence, when work that goes through `patience` has to wait.
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
        self.patience = Patience(settings.patience, notice)
        self._quick = QuickPut(settings, context)
        self._minio = Minio(
            settings.host,
            access_key=settings.access,
            secret_key=settings.secret,
            secure=settings.secure,
            region=settings.region,
            http_client=pool,
        )
        # A bucket's name must not be a host's: names are looked up in the clear, and the bucket of
        # images is named after the group token.
        self._minio.disable_virtual_style_endpoint()  # type: ignore[no-untyped-call]

    def make_bucket(self, bucket: str) -> None:
        """Make the bucket; fine if it is there."""
        if self._quick.put(f"/{bucket}"):
            return
        with self._speaking(bucket):
            try:
                self._minio.make_bucket(bucket)
            except S3Error as error:
                if error.code not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
                    raise

    def has_bucket(self, bucket: str) -> bool:
        """Whether the bucket exists and may be used."""
        with self._speaking(bucket):
            return self._minio.bucket_exists(bucket)

    def find(self, bucket: str, name: str) -> StoredObject | None:
        """Return an object of the bucket without its content; None if it or the bucket is not."""
        with self._speaking(bucket):
            try:
                found = self._minio.stat_object(bucket, name)
            except S3Error as error:
                if error.code not in ("NoSuchKey", "NoSuchBucket"):
                    raise
                return None
        return StoredObject(name, found.size or 0, found.last_modified)

    def put(self, bucket: str, name: str, content: bytes) -> None:
        """Store a small object in one request."""
        if self._quick.put(f"/{bucket}/{name}", content):
            return
        with self._speaking(bucket):
            self._minio.put_object(bucket, name, io.BytesIO(content), len(content))

    def put_into_new(self, bucket: str, name: str, content: bytes) -> None:
        """Make the bucket and store a small object in it, in one request where that is possible."""
        if not self._quick.put(f"/{bucket}/{name}", content, make_bucket=True):
            self.make_bucket(bucket)
            self.put(bucket, name, content)

    @contextlib.contextmanager
    def writing(self, bucket: str, name: str, expected_bytes: int = 0) -> Iterator[IO[bytes]]:
        """Yield a file to write an object of any size to, in bounded memory.

        The object appears when the block ends well. When it raises, a Ctrl-C included, nothing
        appears and the parts sent so far are removed. `expected_bytes` is a hint to the size.
        """
        part_size = max(_PART_SIZE, -(-expected_bytes // _MOST_PARTS))
        read_end, write_end = os.pipe()
        sink = os.fdopen(write_end, "wb", buffering=_READ_SIZE)
        upload = _Upload(self._minio, bucket, name, read_end, part_size)
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
            # The upload ended before the content did: its own error says why.
        if upload.error is not None:
            with self._speaking(bucket):
                raise upload.error

    def list(self, bucket: str) -> list[StoredObject]:
        """Every object of the bucket, by name; raises BucketMissingError."""
        with self._speaking(bucket):
            return [
                StoredObject(
                    item.object_name,
                    item.size or 0,
                    item.last_modified,
                    (item.etag or "").strip('"'),
                )
                for item in self._minio.list_objects(bucket, recursive=True)
                if item.object_name
            ]

    def download(
        self, bucket: str, item: StoredObject, path: Path, advance: Callable[[int], None]
    ) -> Downloaded:
        """Write an object to the file `path`; `advance` is told the bytes as they come."""
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
                        f"Fetching {item.name} broke off {_TRIES} times ({_short(error)}). Run the "
                        "same command again."
                    ) from None

    def copy(self, bucket: str, name: str, to: str) -> None:
        """Copy an object into another bucket; all of it or nothing appears.

        Within the storage, or through this machine if the storage cannot.
        """
        with self._speaking(to):
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
        """Remove an object; one that is not there is removed already."""
        with self._speaking(bucket):
            self._minio.remove_object(bucket, name)

    def remove_bucket(self, bucket: str) -> int:
        """Remove the bucket with all that is in it; returns the number of objects removed.

        All versions of objects and the parts of unfinished uploads go too.
        Raises BucketMissingError.
        """
        removed = 0
        with self._speaking(bucket):
            for attempt in range(1, _TRIES + 1):
                removed += self._empty(bucket)
                try:
                    self._minio.remove_bucket(bucket)
                    break
                except S3Error as error:
                    # Something was put in meanwhile, by an upload that was still on its way.
                    if error.code != "BucketNotEmpty" or attempt == _TRIES:
                        raise
        return removed

    def _empty(self, bucket: str) -> int:
        try:
            items = list(self._minio.list_objects(bucket, recursive=True, include_version=True))
        except S3Error as error:
            if error.code not in _UNKNOWN_CALL:
                raise
            items = list(self._minio.list_objects(bucket, recursive=True))
        doomed = [
            DeleteObject(item.object_name, _real_version(item.version_id))
            for item in items
            if item.object_name
        ]
        for failure in self._minio.remove_objects(bucket, doomed):
            raise StorageError(
                f"The storage did not remove {failure.name}: {failure.message or failure.code}. "
                "Run the same command again."
            )
        self._abort_uploads(bucket)
        return len(doomed)

    def _abort_uploads(self, bucket: str) -> None:
        # The SDK has no public call for unfinished uploads. Its own put_object uses these two, and
        # the integration tests would see them go.
        more = True
        while more:
            try:
                page = self._minio._list_multipart_uploads(bucket)
            except S3Error as error:
                if error.code not in _UNKNOWN_CALL:
                    raise
                return
            for upload in page.uploads:
                name, key = upload.object_name, upload.upload_id
                if key:
                    self._minio._abort_multipart_upload(bucket, name, key)
            more = page.is_truncated and bool(page.uploads)

    @contextlib.contextmanager
    def _reading(self, bucket: str, name: str) -> Iterator[Any]:
        with self._speaking(bucket):
            response = self._minio.get_object(bucket, name)
        try:
            yield response
        finally:
            response.close()
            response.release_conn()

    @contextlib.contextmanager
    def _speaking(self, bucket: str) -> Iterator[None]:
        """Turn the SDK's exceptions into ours.

        Their text is left out of tracebacks (`from None`): it holds addresses with bucket names.
        """
        try:
            yield
        except LeruliError:
            raise
        except S3Error as error:
            raise self._explain(error, bucket) from None
        except MaxRetryError as error:
            if isinstance(error.reason, SSLError):
                if speaks_plain_http(error.reason):
                    raise StorageError(
                        f"What answers at {self._host} speaks http:// and LERULI_S3_SERVER begins "
                        f"with https://. Set it to http://{self._host}, or ask the operator "
                        "of the storage for its https:// address."
                    ) from None
                raise StorageError(
                    f"The certificate of the object storage at {self._host} is not trusted "
                    f"({_short(error.reason)}). If your organisation has a certificate authority "
                    "of its own, name its file in SSL_CERT_FILE."
                ) from None
            raise StorageAwayError(
                f"The object storage at {self._host} did not answer ({_short(error.reason)}).",
                "Check LERULI_S3_SERVER and your network, then run the same command again.",
            ) from None
        except (MinioException, HTTPError, OSError, ValueError) as error:
            raise StorageError(
                f"The object storage at {self._host} gave no sensible answer ({_short(error)}). "
                "Check that LERULI_S3_SERVER is an S3 server and not a web page of one."
            ) from None

    def _explain(self, error: S3Error, bucket: str) -> StorageError:
        code = error.code or ""
        if code == "NoSuchBucket":
            return BucketMissingError(
                f"There is no bucket {bucket} in the storage at {self._host}. It was purged, or it "
                "is in another storage than the one LERULI_S3_SERVER names."
            )
        if code in ("InvalidAccessKeyId", "SignatureDoesNotMatch"):
            return StorageError(
                f"The object storage at {self._host} did not accept your keys ({code}). Check "
                "LERULI_S3_ACCESS and LERULI_S3_SECRET."
            )
        if code == "AccessDenied":
            return StorageError(
                f"The object storage at {self._host} does not let you use bucket {bucket}. Check "
                "LERULI_S3_ACCESS, or ask the operator of the storage for the permission."
            )
        if code == "RequestTimeTooSkewed":
            return StorageError(
                f"The clock of this machine and that of the storage at {self._host} differ too "
                "much. Set the clock."
            )
        return StorageError(
            f"The object storage at {self._host} refused: {error.message or code} ({code})."
        )


class _Upload(threading.Thread):
    """Sends what comes out of a pipe as one object.

    In a thread of its own, so that whatever ends the writer early, Ctrl-C too, is an ordinary error
    here, upon which the SDK removes the parts that it has sent.
    """

    def __init__(self, minio: Minio, bucket: str, name: str, read_end: int, part_size: int) -> None:
        super().__init__(name=f"upload {name}", daemon=True)
        self._minio = minio
        self._target_object = (bucket, name)
        self._pipe = os.fdopen(read_end, "rb", buffering=_READ_SIZE)
        self._part_size = part_size
        #: Set before the pipe is closed; the end of the pipe without it is a failure.
        self.content_is_complete = False
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            self._minio.put_object(
                *self._target_object,
                self,  # type: ignore[arg-type]  # read() is all that it needs
                length=-1,
                part_size=self._part_size,
                num_parallel_uploads=1,
            )
        except Exception as error:  # handed to the writer's thread
            self.error = error
        finally:
            self._pipe.close()  # a writer that is still writing gets BrokenPipeError

    def read(self, size: int) -> bytes:
        """Exactly `size` bytes unless the content ends: the SDK is slow with many small pieces."""
        data = self._pipe.read(size)
        if len(data) < size and not self.content_is_complete:
            raise InterruptedError("the content broke off")
        return data


def _metadata(headers: Mapping[str, str]) -> dict[str, str]:
    names = {name: name.lower() for name in headers}
    return {
        small[len(_METADATA) :]: headers[name]
        for name, small in names.items()
        if small.startswith(_METADATA)
    }


def _real_version(version: str | None) -> str | None:
    # Of a bucket that never had versions some servers list the version "null".
    return None if version in (None, "", "null") else version


def _short(error: object) -> str:
    """Return the gist of an error; of one of urllib3's without the address that it would print."""
    text = str(error)
    if isinstance(error, HTTPError):
        text = text.rpartition(": ")[2]
    return text.strip()[:200] or type(error).__name__
