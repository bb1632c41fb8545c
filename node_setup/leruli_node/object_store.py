"""The group's S3 store: streams in, files out, and which errors pass with time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO
from urllib.parse import urlsplit

import certifi
import urllib3
from minio import Minio
from minio.deleteobjects import DeleteObject
from minio.error import InvalidResponseError, MinioException, S3Error, ServerError

from leruli_node.errors import describe

CHUNK = 2**20
_PART = 16 * 2**20
# A part is held in memory; a store takes at most 10,000 of them.
_LARGEST_PART = 64 * 2**20
_MOST_PARTS = 10_000
LARGEST = _MOST_PARTS * _LARGEST_PART
_MISSING = frozenset({"NoSuchKey", "NoSuchBucket", "ResourceNotFound", "NotFound"})
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


class StoreAway(Exception):
    """The store cannot be reached, or refuses for now; later it may not."""


class StoreRefused(StoreAway):
    """The store does not let this key, or this clock, do that; `code` is S3's word for it."""

    def __init__(self, code: str) -> None:
        super().__init__(f"it refuses this node ({code})")
        self.code = code


class NotThere(Exception):
    """There is no such object; `bucket` tells whether even the bucket is missing."""

    def __init__(self, bucket: bool) -> None:
        super().__init__("no such bucket" if bucket else "no such object")
        self.bucket = bucket


class Unstorable(Exception):
    """The store takes no object of this name or size."""


@dataclass(frozen=True)
class Stream:
    """An object that is being read."""

    etag: str
    size: int
    _response: urllib3.BaseHTTPResponse

    def chunks(self) -> Iterator[bytes]:
        """The bytes, about a megabyte at a time; StoreAway when the connection breaks."""
        try:
            yield from self._response.stream(CHUNK, decode_content=False)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise StoreAway(describe(error)) from None


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
        # No retries below: whoever calls has its own patience and can be interrupted.
        self._http = urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=10.0, read=120.0),
            retries=urllib3.Retry(total=0, redirect=2),
            maxsize=connections,
            cert_reqs="CERT_REQUIRED",
            ca_certs=_ca_file(),
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

    def write(self, bucket: str, name: str, data: BinaryIO, size: int) -> None:
        """Store `size` bytes; big objects in parts, so that little memory is used."""
        if size > LARGEST:
            raise Unstorable("too large")
        part = max(_PART, -(-size // (_MOST_PARTS * 2**20)) * 2**20)
        with _translated():
            self._client.put_object(
                bucket, name, data, size, part_size=part, num_parallel_uploads=1
            )

    def remove(self, bucket: str, names: list[str]) -> None:
        """Remove objects; those that are gone are no error."""
        with _translated():
            for error in self._client.remove_objects(bucket, map(DeleteObject, names)):
                if error.code not in _MISSING:
                    raise StoreAway(str(error.code))

    def close(self) -> None:
        """Close the connections."""
        self._http.clear()


def _ca_file() -> str | None:
    return os.environ.get("SSL_CERT_FILE") or certifi.where()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except S3Error as error:
        if error.code in _MISSING:
            raise NotThere(error.code == "NoSuchBucket") from None
        if error.code in _UNSTORABLE:
            raise Unstorable(error.code) from None
        if getattr(error.response, "status", None) in (401, 403):
            raise StoreRefused(str(error.code)[:60]) from None
        raise StoreAway(describe(error)) from None
    except (
        InvalidResponseError,
        ServerError,
        MinioException,
        urllib3.exceptions.HTTPError,
        OSError,
    ) as error:
        raise StoreAway(describe(error)) from None
    except ValueError:
        raise Unstorable("the name is not allowed") from None
