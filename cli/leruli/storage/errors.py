"""Mapping errors of the S3 SDK to ours, with a sentence for the cases that people meet."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from urllib3.exceptions import HTTPError, MaxRetryError, SSLError

from leruli.errors import BucketMissingError, LeruliError, StorageAwayError, StorageError
from leruli.storage.sdk import MinioException, S3Error
from leruli.tls import speaks_plain_http


@contextlib.contextmanager
def map_s3_errors(host: str, bucket: str) -> Iterator[None]:
    """Map errors of the SDK and of urllib3 to ours.

    `from None` keeps their text out of tracebacks: it holds addresses with bucket names.
    """
    try:
        yield
    except LeruliError:
        raise
    except S3Error as error:
        raise _explain(error, host, bucket) from None
    except MaxRetryError as error:
        if isinstance(error.reason, SSLError):
            if speaks_plain_http(error.reason):
                raise StorageError(
                    f"The server at {host} speaks http:// and LERULI_S3_SERVER begins "
                    f"with https://. Set it to http://{host}, or ask the operator "
                    "of the storage for its https:// address."
                ) from None
            raise StorageError(
                f"The certificate of the object storage at {host} is not trusted "
                f"({short(error.reason)}). If your organisation has a certificate authority "
                "of its own, name its file in SSL_CERT_FILE."
            ) from None
        raise StorageAwayError(
            f"The object storage at {host} did not answer ({short(error.reason)}).",
            "Check LERULI_S3_SERVER and your network, then run the same command again.",
        ) from None
    except (MinioException, HTTPError, OSError, ValueError) as error:
        raise StorageError(
            f"The object storage at {host} gave no sensible answer ({short(error)}). "
            "Check that LERULI_S3_SERVER is an S3 server and not a web page of one."
        ) from None


def _explain(error: S3Error, host: str, bucket: str) -> StorageError:
    code = error.code or ""
    if code == "NoSuchBucket":
        return BucketMissingError(
            f"There is no bucket {bucket} in the storage at {host}. It was purged, or it "
            "is in another storage than the one LERULI_S3_SERVER names."
        )
    if code in ("InvalidAccessKeyId", "SignatureDoesNotMatch"):
        return StorageError(
            f"The object storage at {host} did not accept your keys ({code}). Check "
            "LERULI_S3_ACCESS and LERULI_S3_SECRET."
        )
    if code == "AccessDenied":
        return StorageError(
            f"The object storage at {host} does not let you use bucket {bucket}. Check "
            "LERULI_S3_ACCESS, or ask the operator of the storage for the permission."
        )
    if code == "RequestTimeTooSkewed":
        return StorageError(
            f"The clock of this machine and that of the storage at {host} differ too "
            "much. Set the clock."
        )
    return StorageError(f"The object storage at {host} refused: {error.message or code} ({code}).")


def short(error: object) -> str:
    """Return the reason of an error. Of urllib3's errors it leaves the address out."""
    text = str(error)
    if isinstance(error, HTTPError):
        text = text.rpartition(": ")[2]
    return text.strip()[:200] or type(error).__name__
