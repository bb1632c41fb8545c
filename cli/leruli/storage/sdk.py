"""The S3 SDK (minio): its only importer.

`import minio` also imports what the SDK's administration of servers encrypts with. `lazy_module`
leaves that out.
"""

from __future__ import annotations

import logging

from leruli.storage.lazy_minio import lazy_module

with lazy_module("minio.crypto", "decrypt", "encrypt"):
    from minio import Minio
    from minio.commonconfig import CopySource
    from minio.deleteobjects import DeleteObject
    from minio.error import MinioException, S3Error

__all__ = ["CopySource", "DeleteObject", "Minio", "MinioException", "S3Error"]


class _NoRetryNotes(logging.Filter):
    """Drops urllib3's log lines about retries: they hold bucket names, which protect the data."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith("Retrying")


logging.getLogger("urllib3.connectionpool").addFilter(_NoRetryNotes())
