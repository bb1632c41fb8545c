"""versitygw as the stack's S3: one key for the group, which may not list the buckets."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import httpx
from minio import Minio

from leruli_queue.embedded.folders import Folders, write_private
from leruli_queue.embedded.kept import Kept
from leruli_queue.embedded.processes import Part
from leruli_queue.embedded.programs import Programs

# Of all its buckets: what versitygw says unless it is told otherwise.
REGION = "us-east-1"
# Bucket names are unguessable, and knowing one is the right to use it: listing them must not work.
_POLICY = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Action": "s3:*", "Resource": "arn:aws:s3:::*"},
        {"Effect": "Deny", "Action": "s3:ListAllMyBuckets", "Resource": "*"},
    ],
}


def url(kept: Kept) -> str:
    """Return the address of the object store."""
    return f"http://{kept.address}:{kept.ports.object_store}"


def write_users(folders: Folders, kept: Kept) -> None:
    """Write the file of users that versitygw's IAM reads at its start."""
    now = datetime.now(UTC).isoformat()
    name = kept.object_store_access
    user = {
        "Path": "/",
        "UserName": name,
        "UserID": "AIDALERULIQUEUELOCAL",
        "Arn": f"arn:aws:iam::000000000000:user/{name}",
        "CreateDate": now,
        "AccessKeys": [
            {
                "AccessKeyId": name,
                "SecretAccessKey": kept.object_store_secret,
                "Status": "Active",
                "CreateDate": now,
            }
        ],
        "Policies": {
            "inline": [
                {
                    "PolicyName": "group",
                    "PolicyDocument": json.dumps(_POLICY),
                    "CreateDate": now,
                    "UpdateDate": now,
                }
            ]
        },
    }
    users = {"users": {name: user}, "accessKeyIndex": {name: name}}
    write_private(folders.object_store_iam / "iam.json", json.dumps(users))


def iam_part(folders: Folders, kept: Kept, programs: Programs) -> Part:
    """Return the identity service as a part of the stack."""
    return Part(
        name="object store's users",
        arguments=[
            *(programs.versitygw, "-p", folders.sockets / "iam-public.sock", "--quiet"),
            *("--keep-alive", "iam", "--dir", folders.object_store_iam),
            *("--private-ports", private_socket(folders), "--private-socket-perm", "0600"),
        ],
        environment=_environment(kept),
        log=folders.logs / "object-store-users.log",
    )


def gateway_part(folders: Folders, kept: Kept, programs: Programs) -> Part:
    """Return the S3 server as a part of the stack; it needs the identity service to be up."""
    return Part(
        name="object store",
        arguments=[
            *(programs.versitygw, "-p", f"{kept.address}:{kept.ports.object_store}", "--quiet"),
            *("--keep-alive", "--health", "/health"),
            *("--iam-standalone-endpoint", private_socket(folders)),
            *("posix", "--disable-object-lock-file", folders.objects),
        ],
        environment=_environment(kept),
        log=folders.logs / "object-store.log",
    )


def private_socket(folders: Folders) -> Path:
    """Return the socket on which the S3 server asks the identity service."""
    return folders.sockets / "iam.sock"


def remove_sockets(folders: Folders) -> None:
    """Remove the sockets of a start that was killed; their presence means readiness."""
    for path in (private_socket(folders), folders.sockets / "iam-public.sock"):
        path.unlink(missing_ok=True)


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


def _environment(kept: Kept) -> dict[str, str]:
    # In the environment, not on the command line, which everybody can read.
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "ROOT_ACCESS_KEY": "root",
        "ROOT_SECRET_KEY": kept.object_store_root,
    }
