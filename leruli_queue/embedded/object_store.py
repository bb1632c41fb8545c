"""The stack's S3, leruli-objects (objectstore): one key, the group's, cannot list buckets."""

from __future__ import annotations

import os

from minio import Minio

from leruli_queue.embedded import plain_http
from leruli_queue.embedded.folders import Folders
from leruli_queue.embedded.processes import Part
from leruli_queue.embedded.programs import Programs
from leruli_queue.embedded.state import StackState

# The region of all its buckets: the default of versitygw.
REGION = "us-east-1"
_HEALTH = "/health"
# Little of its allocated memory stays in use, so frequent garbage collection is wasted work.
_GO_RUNTIME = {"GOGC": "400"}


def url(state: StackState) -> str:
    """Return the address of the object store."""
    return f"http://{state.address}:{state.ports.object_store}"


def part(folders: Folders, state: StackState, programs: Programs) -> Part:
    """Return the S3 server as a part of the stack."""
    return Part(
        name="object store",
        arguments=[
            *(programs.objects, "-listen", f"{state.address}:{state.ports.object_store}"),
            *("-health", _HEALTH, "-folder", folders.objects),
        ],
        environment={
            "PATH": os.environ.get("PATH", os.defpath),
            "LERULI_OBJECTS_ACCESS": state.object_store_access,
            "LERULI_OBJECTS_SECRET": state.object_store_secret,
            **_GO_RUNTIME,
        },
        log=folders.logs / "object-store.log",
    )


def answers(state: StackState) -> bool:
    """Tell whether the S3 server answers."""
    return plain_http.answers(f"{url(state)}{_HEALTH}")


def make_code_bucket(state: StackState) -> None:
    """Make the bucket of the group's images, because the published client does not make it."""
    client = Minio(
        f"{state.address}:{state.ports.object_store}",
        access_key=state.object_store_access,
        secret_key=state.object_store_secret,
        secure=False,
        region=REGION,
    )
    bucket = f"code-{state.group_token}"
    if not client.bucket_exists(bucket):
        client.make_bucket(bucket)
