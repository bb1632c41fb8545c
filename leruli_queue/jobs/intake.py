"""Store submitted jobs: the form of a job, and one set-based insert for any number of jobs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from uuid_utils.compat import uuid7

from leruli_queue.access.authenticate import User
from leruli_queue.errors import UserReportableError
from leruli_queue.jobs.retry_rules import RetryRule
from leruli_queue.store.locks import SECRET_LOCKS
from leruli_queue.store.pool import Connection, Pool
from leruli_queue.store.queries import queries, rows

CODE_PATTERN = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
"""A name without a registry, as Docker allows it."""

VERSION_PATTERN = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,62}"
"""A tag as Docker allows it, but of at most 63 characters."""

CODE_VERSION_SCHEMA: dict[str, Any] = {
    "pattern": f"^{CODE_PATTERN}:{VERSION_PATTERN}$",
    "not": {"pattern": "^[^:]{64}|:latest$"},
}
"""The form that :func:`split_code_version` accepts, as JSON Schema."""

_CODE_VERSION = re.compile(rf"(?P<code>{CODE_PATTERN}):(?P<version>{VERSION_PATTERN})")


@dataclass(frozen=True)
class NewBatch:
    """The batch that a job joins. The first job of a batch makes it."""

    id: UUID
    # For people. A batch that is there keeps its name.
    name: str


@dataclass(frozen=True)
class NewJob:
    """A job as its user submits it, already checked."""

    bucket: str
    name: str
    code: str
    version: str
    cores: int
    memory_mb: int
    time_limit_s: int
    # Among the user's own jobs: the highest goes first.
    priority: int = 0
    # None: the value of LERULI_QUEUE_DEFAULT_DISK_MB at the start of the job.
    disk_mb: int | None = None
    # Size of /dev/shm. None: Docker's default, 64 MB.
    shm_mb: int | None = None
    # Whether it may run in the container of the user's job before it.
    share_container: bool = False
    batch: NewBatch | None = None
    # When its user wants it tried again. None: never.
    retry: RetryRule | None = None


class BucketInUseError(UserReportableError):
    """The bucket has another job: one of the user (``own``), or one of another user."""

    def __init__(self, own: UUID | None = None) -> None:
        if own is None:
            message = (
                "Another user of the group has submitted a job with this bucket, and a bucket has "
                "one job. This job was not accepted; submit with a bucket of your own (for a "
                "folder, delete its leruli.bucket first)."
            )
        else:
            message = (
                f"This bucket has a job of yours already, {own}, with another image, name, number "
                "of cores, memory or time limit, and a bucket has one job. This job was not "
                "accepted. For another job submit with a new bucket (for a folder, delete its "
                "leruli.bucket and leruli.job first); to repeat a submit, ask for the same."
            )
        super().__init__(message, status=409)


def split_code_version(text: str) -> tuple[str, str]:
    """Split ``code:version`` into code and version.

    Raises
    ------
    ValueError
        When the text cannot name an image, with a sentence.
    """
    match = _CODE_VERSION.fullmatch(text)
    if match is None or len(match["code"]) > 63:
        raise ValueError(
            "codeversion has to read code:version, as the image is tagged: lower-case letters, "
            "digits and single . _ - in the code; letters, digits and . _ - in the version"
        )
    if match["version"] == "latest":
        # Nomad's Docker driver pulls this tag from a registry even if the image is there already.
        raise ValueError("codeversion has to name a version; 'latest' is not one")
    return match["code"], match["version"]


async def submit_jobs(
    connection: Connection | Pool, jobs: Sequence[tuple[User, NewJob]]
) -> list[UUID | BucketInUseError | None]:
    """Store jobs with one statement.

    It commits by itself if no transaction is open. It holds the secrets of the users, as
    :func:`~leruli_queue.access.authenticate.authenticate_user` does for other writes
    (docs/developers/locks.md).

    Returns
    -------
    list
        One entry for each job, in order:

        - The id of the job. If the user submitted the same job with the same bucket before, in this
          call or an earlier one, it is the earlier id: repeating a submission is safe.
        - The error, if the bucket has another job. The other jobs are stored all the same.
        - None, if the user was revoked or the group disabled since the user was authenticated.
    """
    arguments = _arguments(jobs)
    ids: list[UUID | None]
    options = {
        "disk_mbs": [job.disk_mb for _, job in jobs],
        "shm_mbs": [job.shm_mb for _, job in jobs],
        "shares": [job.share_container for _, job in jobs],
    }
    if any(job.retry for _, job in jobs):
        ids = await queries.insert_jobs_with_rules(
            connection,
            **arguments,
            **options,
            **_batches(jobs),
            most_retries=[job.retry and job.retry.most_retries for _, job in jobs],
            retry_ons=[job.retry and job.retry.text for _, job in jobs],
            most_memory_mbs=[job.retry and job.retry.most_memory_mb for _, job in jobs],
            most_time_limits=[job.retry and job.retry.most_time_limit_s for _, job in jobs],
        )
    elif any(job.batch for _, job in jobs):
        ids = await queries.insert_jobs_in_batches(
            connection, **arguments, **options, **_batches(jobs)
        )
    elif any(job.disk_mb or job.shm_mb or job.share_container for _, job in jobs):
        ids = await queries.insert_jobs_with_options(connection, **arguments, **options)
    else:
        ids = await queries.insert_jobs(connection, **arguments)
    refused = [of for of, job_id in zip(jobs, ids, strict=True) if job_id is None]
    if not refused:
        return [*ids]
    reasons = iter(await _why_not(connection, refused))
    return [next(reasons) if job_id is None else job_id for job_id in ids]


def _arguments(jobs: Sequence[tuple[User, NewJob]]) -> dict[str, Any]:
    """Return the arguments of the statement that stores jobs: an array for each column."""
    return {
        "lock": SECRET_LOCKS,
        # Always in the same order, so that two calls cannot deadlock.
        "key_ids": sorted({user.key_id for user, _ in jobs}),
        # UUIDs of version 7 grow with time, so the primary key is also the order of arrival.
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


def _batches(jobs: Sequence[tuple[User, NewJob]]) -> dict[str, Any]:
    return {
        "batch_ids": [job.batch and job.batch.id for _, job in jobs],
        "batch_names": [job.batch and job.batch.name for _, job in jobs],
    }


async def _why_not(
    connection: Connection | Pool, refused: Sequence[tuple[User, NewJob]]
) -> list[BucketInUseError | None]:
    """Return the error for each refused job; None where the bucket is not the cause."""
    found = await rows(
        queries.why_not_submitted(
            connection,
            user_ids=[user.id for user, _ in refused],
            buckets=[job.bucket for _, job in refused],
        )
    )
    return [BucketInUseError(row["own_id"]) if row["in_use"] else None for row in found]
