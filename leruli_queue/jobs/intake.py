"""Take jobs in: what a job may ask for, and one set-based insert for any number of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from uuid_utils.compat import uuid7

from leruli_queue.access.authenticate import User
from leruli_queue.errors import UserReportableError
from leruli_queue.store.locks import SECRET_LOCKS
from leruli_queue.store.pool import Connection, Pool
from leruli_queue.store.queries import queries, rows

CODE_PATTERN = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
"""What Docker allows as a name without a registry."""

VERSION_PATTERN = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,62}"
"""What Docker allows as a tag, a little shorter."""

CODE_VERSION_SCHEMA: dict[str, Any] = {
    "pattern": f"^{CODE_PATTERN}:{VERSION_PATTERN}$",
    "not": {"pattern": "^[^:]{64}|:latest$"},
}
"""What :func:`split_code_version` takes, in the words of JSON Schema."""

_CODE_VERSION = re.compile(rf"(?P<code>{CODE_PATTERN}):(?P<version>{VERSION_PATTERN})")


@dataclass(frozen=True)
class NewJob:
    """A job as its user asks for it, already checked."""

    bucket: str
    name: str
    code: str
    version: str
    cores: int
    memory_mb: int
    time_limit_s: int
    # Among the user's own jobs: higher goes first.
    priority: int = 0
    # None: LERULI_QUEUE_DEFAULT_DISK_MB, as it is when the job is started.
    disk_mb: int | None = None
    # Of /dev/shm. None: Docker's default, 64 MB.
    shm_mb: int | None = None


class BucketInUseError(UserReportableError):
    """The bucket has another job: of another user, of which nothing is told, or of one's own."""

    def __init__(self, own: UUID | None = None) -> None:
        if own is None:
            message = (
                "Another user of the group has submitted a job with this bucket, and a bucket has "
                "one job. Nothing was taken; submit with a bucket of your own (for a folder, "
                "delete its leruli.bucket first)."
            )
        else:
            message = (
                f"This bucket has a job of yours already, {own}, with another image, name, number "
                "of cores, memory or time limit, and a bucket has one job. Nothing was taken. For "
                "another job submit with a new bucket (for a folder, delete its leruli.bucket and "
                "leruli.job first); to repeat a submit, ask for the same."
            )
        super().__init__(message, status=409)


def split_code_version(text: str) -> tuple[str, str]:
    """Take ``code:version`` apart.

    Raises
    ------
    ValueError
        With a sentence, when it could not name an image.
    """
    match = _CODE_VERSION.fullmatch(text)
    if match is None or len(match["code"]) > 63:
        raise ValueError(
            "codeversion has to read code:version, as the image is tagged: lower-case letters, "
            "digits and single . _ - in the code; letters, digits and . _ - in the version"
        )
    if match["version"] == "latest":
        # Nomad's Docker driver pulls this tag from a registry whatever is there already.
        raise ValueError("codeversion has to name a version; 'latest' is not one")
    return match["code"], match["version"]


async def take_in(
    connection: Connection | Pool, jobs: Sequence[tuple[User, NewJob]]
) -> list[UUID | BucketInUseError | None]:
    """Store jobs and return their ids, in order.

    One statement, so all or none, and committed by itself where no transaction is open. A job
    that the same user submitted before with its bucket, in this call or an earlier one, gives the
    id that it has: repeating a submit is safe. A bucket that has another job gives the error that
    refuses it; the other jobs are stored all the same.

    The secrets of the users are held as :func:`~leruli_queue.access.authenticate.authenticate_user`
    does it for other writes (docs/developers/locks.md). None stands in the place of an id where the
    user was revoked, or the group disabled, since then.
    """
    arguments: dict[str, Any] = {
        "lock": SECRET_LOCKS,
        # In one order for everybody: none waits for another in a circle.
        "key_ids": sorted({user.key_id for user, _ in jobs}),
        # They grow with time, so the primary key is also the order of arrival.
        "ids": [UUID(int=uuid7().int) for _ in jobs],
        "group_ids": [user.group_id for user, _ in jobs],
        "user_ids": [user.id for user, _ in jobs],
        "buckets": [job.bucket for _, job in jobs],
        "names": [job.name for _, job in jobs],
        "codes": [job.code for _, job in jobs],
        "versions": [job.version for _, job in jobs],
        "cores": [job.cores for _, job in jobs],
        "memory_mbs": [job.memory_mb for _, job in jobs],
        "time_limits": [job.time_limit_s for _, job in jobs],
        "priorities": [job.priority for _, job in jobs],
    }
    ids: list[UUID | None]
    if any(job.disk_mb or job.shm_mb for _, job in jobs):
        ids = await queries.take_in_with_limits(
            connection,
            **arguments,
            disk_mbs=[job.disk_mb for _, job in jobs],
            shm_mbs=[job.shm_mb for _, job in jobs],
        )
    else:
        ids = await queries.take_in(connection, **arguments)
    refused = [of for of, job_id in zip(jobs, ids, strict=True) if job_id is None]
    if not refused:
        return [*ids]
    reasons = iter(await _why_not(connection, refused))
    return [next(reasons) if job_id is None else job_id for job_id in ids]


async def _why_not(
    connection: Connection | Pool, refused: Sequence[tuple[User, NewJob]]
) -> list[BucketInUseError | None]:
    """Return what refuses each of these jobs; None where it is not the bucket."""
    found = await rows(
        queries.why_not_taken_in(
            connection,
            user_ids=[user.id for user, _ in refused],
            buckets=[job.bucket for _, job in refused],
        )
    )
    return [BucketInUseError(row["own_id"]) if row["in_use"] else None for row in found]
