"""Submitting folders again, from Python."""

from __future__ import annotations

import os
from collections.abc import Iterable

from leruli import settings
from leruli.errors import NotFoundError, RefusedError
from leruli.jobs.resubmit import Selection, archive_previous, drop_refused, find_specs, select_over
from leruli.jobs.submit import Command, prepare, submit
from leruli.jobs.submit_many import STAGERS, Case, submit_batch
from leruli.python_api.arguments import STRICT, Folder, as_fields, as_folder, as_folders, warn
from leruli.python_api.job import ManyFolders
from leruli.python_api.submission import submitted_before, warn_of_edits, warn_of_unknown
from leruli.service.queue_client import QueueClient
from leruli.storage.store import Store


def task_resubmit(
    directory: Folder,
    *,
    code: str | None = None,
    version: str | None = None,
    command: Command | None = None,
    cores: int | None = None,
    memorymb: int | None = None,
    timeseconds: int | None = None,
    diskmb: int | None = None,
    shmmb: int | None = None,
    priority: int | None = None,
    share_container: bool | None = None,
    retry: int | None = None,
    retry_on: str | Iterable[str] | None = None,
    most_memorymb: int | None = None,
    most_timeseconds: int | None = None,
    name: str | None = None,
    failed_only: bool = False,
    new: bool = False,
    with_results: bool = False,
    strict: bool = False,
) -> str:
    """Submit a folder again whose job is over: a new job with its own bucket.

    The files of the last job are moved to leruli.history/JOBID: leruli.job, leruli.bucket, the logs
    and the fetched results.

    Parameters
    ----------
    directory
        The folder.
    code, version, command, cores, memorymb, timeseconds, diskmb, shmmb, priority
        The same as for `task_submit`. None: the value of the last job.
    share_container, name, retry, retry_on, most_memorymb, most_timeseconds
        The same as for `task_submit`. None: the value of the last job.
    failed_only
        Refuse a folder whose job has not failed.
    new
        Submit a copied folder as a job of its own.
    with_results
        Leave the results in the folder and send them as input, for instance for a restart.
    strict
        Refuse a job that no machine of the group can hold now.

    Returns
    -------
    str
        The id of the new job.

    Raises
    ------
    TypeError
        An argument is of the wrong type.
    NotFoundError
        There is no such folder or no such image.
    RefusedError
        The job is not over, it belongs to another folder, or the queue would refuse the new job.
        The folder was not changed.
    SettingsError, ServiceError, StorageError
        A setting is missing or wrong; or the queue or the object storage failed.
    """
    settings.require(settings.ALL)
    directory = as_folder("directory", directory)
    if not os.path.isdir(directory):  # noqa: PTH112
        raise NotFoundError(f"{directory} is not a folder.")
    wanted = as_fields(
        code=code,
        version=version,
        command=command,
        cores=cores,
        memorymb=memorymb,
        timeseconds=timeseconds,
        diskmb=diskmb,
        shmmb=shmmb,
        priority=priority,
        share_container=share_container,
        retry=retry,
        retry_on=retry_on,
        most_memorymb=most_memorymb,
        most_timeseconds=most_timeseconds,
        name=name,
    )
    store = Store(settings.storage_settings())
    with QueueClient(settings.service_settings()) as service:
        selection = select_over(service, [directory], failed_only=failed_only, new=new)
        specs = find_specs(store, service, selection, wanted)
        drop_refused(service, selection, specs, warn, strict=strict, option=STRICT)
        _refuse(directory, selection)
        archive_previous(selection, with_results=with_results)
        _refuse(directory, selection)
        prepared = prepare(directory, specs[directory], with_results=with_results)
        jobid, _ = submit(store, service, prepared)
    warn_of_unknown(selection)
    warn_of_edits(directory)
    return jobid


def task_resubmit_many(
    directories: Iterable[Folder],
    *,
    code: str | None = None,
    version: str | None = None,
    command: Command | None = None,
    cores: int | None = None,
    memorymb: int | None = None,
    timeseconds: int | None = None,
    diskmb: int | None = None,
    shmmb: int | None = None,
    priority: int | None = None,
    share_container: bool | None = None,
    retry: int | None = None,
    retry_on: str | Iterable[str] | None = None,
    most_memorymb: int | None = None,
    most_timeseconds: int | None = None,
    failed_only: bool = False,
    new: bool = False,
    with_results: bool = False,
    strict: bool = False,
) -> ManyFolders:
    """Submit many folders again whose jobs are over; see `task_resubmit`.

    Parameters
    ----------
    directories
        The folders.
    code, version, command, cores, memorymb, timeseconds, diskmb, shmmb, priority, share_container
        The same as for `task_submit`, for all folders. None: the value of each folder's last job.
    retry, retry_on, most_memorymb, most_timeseconds
        The same.
    failed_only, new, with_results, strict
        The same as for `task_resubmit`.

    Returns
    -------
    ManyFolders
        `done`: folders with a new job. `skipped`: folders without a job, and folders whose job is
        not over or, with `failed_only`, has not failed.

    Raises
    ------
    TypeError
        An argument is of the wrong type.
    NotFoundError
        The image of all folders is not published.
    SettingsError, ServiceError, StorageError
        A setting is missing or wrong; or the queue or the object storage failed.
    """
    settings.require(settings.ALL)
    names = as_folders("directories", directories)
    wanted = as_fields(
        code=code,
        version=version,
        command=command,
        cores=cores,
        memorymb=memorymb,
        timeseconds=timeseconds,
        diskmb=diskmb,
        shmmb=shmmb,
        priority=priority,
        share_container=share_container,
        retry=retry,
        retry_on=retry_on,
        most_memorymb=most_memorymb,
        most_timeseconds=most_timeseconds,
    )
    store = Store(settings.storage_settings(), connections=STAGERS)
    with QueueClient(settings.service_settings()) as service:
        selection = select_over(service, names, failed_only=failed_only, new=new)
        specs = find_specs(store, service, selection, wanted)
        drop_refused(service, selection, specs, warn, strict=strict, option=STRICT)
        archive_previous(selection, with_results=with_results)
        cases = [Case(one, specs[one], with_results) for one in selection.directories]
        report = submit_batch(store, service, cases)
    warn_of_unknown(selection)
    return ManyFolders(
        done=tuple(report.submitted),
        skipped={**selection.skipped, **submitted_before(report)},
        failed={**selection.failed, **report.failed},
        to_look_at={},
    )


def _refuse(directory: str, selection: Selection) -> None:
    """Raise RefusedError if the one folder is not chosen."""
    for why in (*selection.failed.values(), *selection.skipped.values()):
        raise RefusedError(f"{directory} is not submitted again: {why.rstrip('.')}.")
