"""The stack's S3, leruli-objects (setup/objectstore): one key, the group's, cannot list buckets."""

from __future__ import annotations

import os

from minio import Minio

from leruli_queue.embedded import plain_http
from leruli_queue.embedded.folders import Folders
from leruli_queue.embedded.kept import Kept
from leruli_queue.embedded.processes import Part
from leruli_queue.embedded.programs import Programs

# Of all its buckets: what versitygw says unless it is told otherwise.
REGION = "us-east-1"
_HEALTH = "/health"
# Little of what it allocates stays, so collecting garbage often is work for nothing.
_GO_RUNTIME = {"GOGC": "400"}


def url(kept: Kept) -> str:
    """Return the address of the object store."""
    return f"http://{kept.address}:{kept.ports.object_store}"


def part(folders: Folders, kept: Kept, programs: Programs) -> Part:
    """Return the S3 server as a part of the stack."""
    return Part(
        name="object store",
        arguments=[
            *(programs.objects, "-listen", f"{kept.address}:{kept.ports.object_store}"),
            *("-health", _HEALTH, "-folder", folders.objects),
        ],
        environment={
            "PATH": os.environ.get("PATH", os.defpath),
            "LERULI_OBJECTS_ACCESS": kept.object_store_access,
            "LERULI_OBJECTS_SECRET": kept.object_store_secret,
            **_GO_RUNTIME,
        },
        log=folders.logs / "object-store.log",
    )


def answers(kept: Kept) -> bool:
    """Tell whether the S3 server answers."""
    return plain_http.answers(f"{url(kept)}{_HEALTH}")


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
