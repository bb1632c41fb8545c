"""versitygw as the stack's S3: one key for the group, which cannot list the buckets.

Bucket names are unguessable, and knowing one is the right to use it: listing them must not work.
versitygw has a policy for that, but only in an identity service of its own, which it then asks
twice for every request: two thirds of what a request costs. Here the kernel refuses instead. The
folder of the buckets may be entered and written to by its owner, not read, and versitygw runs
without the privileges that would pass over that.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from minio import Minio

from leruli_queue.embedded.folders import Folders
from leruli_queue.embedded.kept import Kept
from leruli_queue.embedded.processes import Part, not_as_root
from leruli_queue.embedded.programs import Programs

# Of all its buckets: what versitygw says unless it is told otherwise.
REGION = "us-east-1"
# Read, enter, write; and without reading, which is what it takes to list what is in a folder.
_OPEN, _NOT_LISTED = 0o700, 0o300
_PATIENCE_S = 10.0


@dataclass
class _Gateway(Part):
    """versitygw, which reads the folder of the buckets once, at its start."""

    folder: Path = field(kw_only=True)
    has_read: Callable[[], bool] = field(kw_only=True)

    def start(self) -> None:
        self.folder.chmod(_OPEN)
        super().start()
        deadline = time.monotonic() + _PATIENCE_S
        while self.is_alive and not self.has_read() and time.monotonic() < deadline:
            time.sleep(0.02)
        self.folder.chmod(_NOT_LISTED)

    def stop(self) -> None:
        super().stop()
        # For who backs it up or deletes it.
        self.folder.chmod(_OPEN)


def url(kept: Kept) -> str:
    """Return the address of the object store."""
    return f"http://{kept.address}:{kept.ports.object_store}"


def gateway_part(folders: Folders, kept: Kept, programs: Programs) -> Part:
    """Return the S3 server as a part of the stack."""
    return _Gateway(
        name="object store",
        arguments=[
            *not_as_root(),
            *(programs.versitygw, "-p", f"{kept.address}:{kept.ports.object_store}", "--quiet"),
            *("--keep-alive", "--health", "/health"),
            *("posix", "--disable-object-lock-file", folders.objects),
        ],
        # In the environment, not on the command line, which everybody can read.
        environment={
            "PATH": os.environ.get("PATH", os.defpath),
            "ROOT_ACCESS_KEY": kept.object_store_access,
            "ROOT_SECRET_KEY": kept.object_store_secret,
        },
        log=folders.logs / "object-store.log",
        folder=folders.objects,
        has_read=lambda: answers(kept),
    )


def answers(kept: Kept) -> bool:
    """Tell whether the S3 server answers."""
    try:
        return httpx.get(f"{url(kept)}/health", timeout=2, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def make_code_bucket(kept: Kept) -> None:
    """Make the bucket of the group's images: the published client does not."""
    client = Minio(
        f"{kept.address}:{kept.ports.object_store}",
        access_key=kept.object_store_access,
        secret_key=kept.object_store_secret,
        secure=False,
        region=REGION,
    )
    bucket = f"code-{kept.group_token}"
    if not client.bucket_exists(bucket):
        client.make_bucket(bucket)
