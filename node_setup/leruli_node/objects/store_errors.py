"""Errors of the group's S3 store: which pass with time, and which do not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from xml.etree.ElementTree import ParseError

import urllib3
from minio.error import InvalidResponseError, MinioException, S3Error, ServerError

from leruli_node.errors import describe

MISSING = frozenset({"NoSuchKey", "NoSuchBucket", "ResourceNotFound", "NotFound"})
# The texts of minio's ValueErrors for answers that are not S3's (of a proxy, for instance) begin
# with these words. All its other ValueErrors are about a name.
_NONSENSE = ("XML element", "time data", "invalid literal")
# Errors about the name or the size of one object. Sending it again cannot help.
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
    """The store cannot be reached, or refuses for now. A later try may succeed."""


class StoreRefusedError(StoreUnavailableError):
    """The store does not allow this key, or this clock, to do that. `code` is S3's error code."""

    def __init__(self, code: str) -> None:
        super().__init__(f"it refuses this node ({code})")
        self.code = code


class NotFoundError(Exception):
    """There is no such object. `bucket` says whether even the bucket is missing."""

    def __init__(self, bucket: bool) -> None:
        super().__init__("no such bucket" if bucket else "no such object")
        self.bucket = bucket


class UnstorableError(Exception):
    """The store accepts no object of this name or size."""


@contextmanager
def map_minio_errors() -> Iterator[None]:
    """Map the errors of minio and urllib3 within the block to the errors of this module."""
    try:
        yield
    except S3Error as error:
        if error.code in MISSING:
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
