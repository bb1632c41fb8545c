"""Submitting folders again from Python."""

from __future__ import annotations

import os
from collections.abc import Iterable

from leruli import settings
from leruli.api import Service
from leruli.batch import STAGERS, Case, submit_batch
from leruli.errors import NotFoundError, RefusedError
from leruli.python_api.arguments import STRICT, Folder, as_fields, as_folder, as_folders, warn
from leruli.python_api.job import ManyFolders
from leruli.python_api.submission import submitted_before, warn_of_edits, warn_of_unknown
from leruli.resubmitting import Selection, drop_refused, find_specs, make_room, select_over
from leruli.storage import Store
from leruli.submitting import Command, prepare, submit


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
    name: str | None = None,
    failed_only: bool = False,
    new: bool = False,
    with_results: bool = False,
    strict: bool = False,
) -> str:
    """Submit a folder again whose job is over: a new job, with a bucket of its own.

    Moves to leruli.history/JOBID what the last job left: leruli.job, leruli.bucket, the logs and
    the results that were fetched.

    Parameters
    ----------
    directory
        The folder.
    code, version, command, cores, memorymb, timeseconds, diskmb, shmmb, priority, name
        As those of `task_submit`; None: as for the last job.
    failed_only
        Refuse a folder whose job has not failed.
    new
        Submit a copied folder as a job of its own.
    with_results
        Leave results in the folder and send them too, as for a restart.
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
        The job is not over, or it is that of another folder, or the queue would not take the new
        one. The folder is as it was.
    SettingsError, ServiceError, StorageError
        A setting, the queue, or the object storage.
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
        name=name,
    )
    store = Store(settings.storage_settings())
    with Service(settings.service_settings()) as service:
        selection = select_over(service, [directory], failed_only=failed_only, new=new)
        specs = find_specs(store, service, selection, wanted)
        drop_refused(service, selection, specs, warn, strict=strict, option=STRICT)
        _refuse(directory, selection)
        make_room(selection, with_results=with_results)
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
    failed_only: bool = False,
    new: bool = False,
    with_results: bool = False,
    strict: bool = False,
) -> ManyFolders:
    """Submit many folders again whose jobs are over, as `task_resubmit` does one.

    Parameters
    ----------
    directories
        The folders.
    code, version, command, cores, memorymb, timeseconds, diskmb, shmmb, priority
        As those of `task_submit`; None: as for the last job of each folder.
    failed_only, new, with_results, strict
        As those of `task_resubmit`.

    Returns
    -------
    ManyFolders
        `done`: folders that have a new job. `skipped`: folders without a job, and those whose job
        is not over, or with `failed_only` has not failed.

    Raises
    ------
    TypeError
        An argument is of the wrong type.
    NotFoundError
        The image of all folders is not published.
    SettingsError, ServiceError, StorageError
        A setting, the queue, or the object storage.
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
    )
    store = Store(settings.storage_settings(), connections=STAGERS)
    with Service(settings.service_settings()) as service:
        selection = select_over(service, names, failed_only=failed_only, new=new)
        specs = find_specs(store, service, selection, wanted)
        drop_refused(service, selection, specs, warn, strict=strict, option=STRICT)
        make_room(selection, with_results=with_results)
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
