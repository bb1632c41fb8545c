"""The job and the bucket that a command fetches or purges."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from leruli import settings
from leruli.errors import NotFoundError, RefusedError, ServiceError, UnknownCallError
from leruli.folder.job_folder import JobFolder
from leruli.jobs.references import named_folder

if TYPE_CHECKING:
    from leruli.service.queue_client import QueueClient
    from leruli.storage.store import Store

Notice = Callable[[str], None]

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")

# Buckets are random UUIDs (version 4), ids of jobs are UUIDs of version 7.
_RANDOM_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")


@dataclass(frozen=True)
class Target:
    """A bucket, and its job if that is known."""

    bucket: str
    jobid: str | None
    #: Whether it comes from the folder, not from an id or a name.
    is_here: bool
    #: The folder that has the results, or gets them.
    directory: str = os.curdir


def target_of_job(job: str, purpose: str, notice: Notice = lambda _: None) -> Target:
    """Return a named job and its bucket; `purpose` is "get" or "purge".

    `notice` takes a sentence each time a call has to wait.
    """
    service_settings = settings.service_settings()

    from leruli.jobs.references import resolve
    from leruli.service.queue_client import QueueClient

    with QueueClient(service_settings, notice) as service:
        jobid = resolve(service, job)
        return Target(service.bucket(jobid, purpose), jobid, is_here=False)


def target_here(directory: str, purpose: str, notice: Notice = lambda _: None) -> Target:
    """Return the job and the bucket of a folder.

    Without leruli.bucket the queue is asked for the bucket. Raises NotFoundError.
    """
    folder = JobFolder(directory)
    jobid, bucket = folder.job(), folder.bucket()
    if bucket is not None:
        return Target(bucket, jobid, is_here=True, directory=directory)
    if jobid is None:
        raise NotFoundError(
            "No job was given, and there is neither leruli.job nor leruli.bucket in "
            f"{named_folder(directory)}. Run this in the folder of the job, or name the job."
        )
    found = target_of_job(jobid, purpose, notice)
    return Target(found.bucket, jobid, is_here=True, directory=directory)


def target_named(text: str, store: Store, notice: Notice = lambda _: None) -> Target:
    """Return the bucket of a named job, or the bucket with this name.

    A bucket may have the form of a job id. Raises NotFoundError.
    """
    a_bucket = Target(text, None, is_here=False)
    if settings.missing(settings.SERVICE):
        return a_bucket
    if _RANDOM_UUID.fullmatch(text) and store.has_bucket(text):
        return a_bucket
    try:
        return target_of_job(text, "get", notice)
    except (NotFoundError, ServiceError) as error:
        if not _BUCKET.fullmatch(text):
            raise
        if store.has_bucket(text):
            return a_bucket
        if isinstance(error, ServiceError):
            raise
        raise NotFoundError(
            f"{error} There is no bucket of that name in the storage either. It may have been "
            "purged, or be in another storage than the one LERULI_S3_SERVER names."
        ) from error


def check_bucket(service: QueueClient, jobid: str, bucket: str) -> None:
    """Raise RefusedError unless the named bucket belongs to the named job."""
    try:
        found = service.bucket(jobid, "purge")
    except UnknownCallError:
        return  # a service that is older than this client
    if found != bucket:
        raise RefusedError(
            f"Bucket {bucket} is not the one of job {jobid}. Nothing was purged. "
            f"`leruli task-purge --job {jobid}` finds the right one."
        )
