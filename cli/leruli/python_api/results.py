"""Fetching results and purging buckets, from Python."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from leruli import settings
from leruli.cancellation import CheckCancelled, never_cancelled
from leruli.errors import BucketMissingError, LeruliError, NotFoundError, RefusedError
from leruli.folder.job_folder import JobFolder
from leruli.folder.local_files import LocalFiles
from leruli.folder.provenance import Provenance, provenance_of
from leruli.jobs.exit_codes import explain
from leruli.jobs.fetch import Wanted, fetch, select_results
from leruli.jobs.fetch_input import fetch_input
from leruli.jobs.fetch_many import fetch_folders
from leruli.jobs.many import WORKERS, ask_for_folders
from leruli.jobs.placing import Fetched
from leruli.jobs.purge import check_purge, purge
from leruli.jobs.purge_many import purge_folders
from leruli.jobs.recover import recover
from leruli.jobs.targets import Target, target_here, target_named, target_of_job
from leruli.python_api.arguments import Folder, as_folder, as_folders, as_text, warn
from leruli.python_api.job import ManyFolders
from leruli.service.queue_client import QueueClient
from leruli.storage.store import Store

if TYPE_CHECKING:
    from leruli.jobs.many import FolderJob
    from leruli.service.queue_client import JobState


def task_get(
    directory: Folder,
    bucket: str | None = None,
    everything: bool = False,
    *,
    jobid: str | None = None,
    with_input: bool = False,
    overwrite: bool = False,
) -> list[str]:
    """Fetch the results of a job into a folder.

    A local file that changed since the submission is not replaced: the result is put beside it as
    NAME.leruli-XXXXXXXX. Input that the job did not change is not a result.

    Parameters
    ----------
    directory
        The folder for the results.
    bucket
        The bucket or the job to fetch. None: the job of the folder.
    everything
        Fetch the archive of the input too.
    jobid
        The job to fetch, as for `task_status`. An admin may name any job of the group.
    with_input
        Fetch the submitted input too, beside changed files.
    overwrite
        Replace local files, also those that were changed.

    Returns
    -------
    list of str
        The paths of the results, relative to the folder, including results that were there already.
        With `with_input`, the paths of the input follow. Empty if there are no results (yet).

    Raises
    ------
    TypeError
        An argument is of the wrong type.
    NotFoundError, BucketMissingError
        There is no such job, or no such bucket in the storage.
    CopiedFolderError
        The job of the folder belongs to another folder, and no job was named.
    RefusedError
        `bucket` and `jobid` were both given.
    LeruliError
        Some objects could not be put into the folder. All others were.
    SettingsError, ServiceError, StorageError
        A setting is missing or wrong; or the queue or the object storage failed.

    Warns
    -----
    LeruliWarning
        The job is not completed (unknown for a bucket), a result was put beside a local file, or
        the input in the folder changed after its job was submitted.
    """
    directory = as_folder("directory", directory)
    if bucket is not None and jobid is not None:
        raise RefusedError("task_get takes bucket or jobid, not both.")
    store = Store(settings.storage_settings())
    if jobid is not None:
        target = target_of_job(as_text("jobid", jobid), "get")
    elif bucket is not None:
        target = _named(as_text("bucket", bucket), store)
    else:
        provenance_of(directory).check_own(directory)
        target = target_here(directory, "get")
    # Ask for the state first. At worst a job that ends meanwhile is called unfinished.
    state = _state(target)
    items = select_results(store, target.bucket, everything=everything)
    local = LocalFiles.of(directory, target.bucket, target.jobid, overwrite=overwrite)
    is_over = state is not None and state.is_final
    fetched = fetch(store, target.bucket, items, directory, local=local, is_over=is_over)
    if with_input:
        fetched.input = fetch_input(store, local, {item.name for item in items})
    _tell_state(target, state)
    _tell(fetched, provenance_of(directory) if target.is_here else Provenance(), directory)
    given = fetched.input.files if fetched.input is not None else []
    return list(dict.fromkeys([*fetched.files, *given]))


def task_get_many(
    directories: Iterable[Folder],
    *,
    again: bool = False,
    everything: bool = False,
    with_input: bool = False,
    overwrite: bool = False,
) -> ManyFolders:
    """Fetch the results of all jobs that are over, each into its own folder.

    Parameters
    ----------
    directories
        The folders of the jobs.
    again
        Include folders whose results were all fetched before. Files that are still there are not
        downloaded.
    everything, with_input, overwrite
        The same as for `task_get`.

    Returns
    -------
    ManyFolders
        `done`: folders with their results. Their jobs may have failed; see `task_status_many`.
        `to_look_at`: a result was put beside a local file, or the input was edited. `skipped`: the
        job is not over, has no results, or was fetched before. `failed`: includes copies of other
        folders.

    Raises
    ------
    TypeError
        `directories` is no list of paths.
    SettingsError, ServiceError
        A setting is missing or wrong, or the queue failed.
    """
    names = as_folders("directories", directories)
    return results_of(names, Wanted(everything, again, overwrite=overwrite, with_input=with_input))


def results_of(
    names: list[str], wanted: Wanted, check_cancelled: CheckCancelled = never_cancelled
) -> ManyFolders:
    """Fetch as `task_get_many` does, until `check_cancelled` raises StoppedError."""
    settings.require(settings.ALL)
    store = Store(settings.storage_settings(), connections=WORKERS)
    with QueueClient(settings.service_settings()) as service:
        recover(None, names, service.find_jobs)
        folders = _folders(service, names)
        tally = fetch_folders(
            store, folders, None, service.bucket, wanted, lambda _: check_cancelled()
        )
    return ManyFolders(tuple(tally.done), tally.skipped, tally.failed, tally.differing)


def task_purge(directory: Folder, *, jobid: str | None = None, force: bool = False) -> int:
    """Delete a job's input and output from the object storage, for good.

    Refused while something would be lost: the job is not over, its results are not in the folder
    with the content of the storage, or only the storage has the input as it was submitted. Files in
    the folder stay. `task_prune` deletes a bucket without these checks.

    Parameters
    ----------
    directory
        The folder of the job, or another folder that has its results.
    jobid
        The job, as for `task_status`. None: the job of the folder.
    force
        Purge in any state, fetched or not. The job of a copied folder is refused all the same.

    Returns
    -------
    int
        The number of objects that were deleted.

    Raises
    ------
    TypeError
        An argument is of the wrong type.
    RefusedError
        Something would be lost. Nothing was deleted.
    CopiedFolderError
        The job of the folder belongs to another folder, and no job was named.
    NotFoundError, BucketMissingError
        There is no such job, or no such bucket in the storage.
    SettingsError, ServiceError, StorageError
        A setting is missing or wrong; or the queue or the object storage failed.
    """
    directory = as_folder("directory", directory)
    store = Store(settings.storage_settings())
    if jobid is not None:
        target = replace(target_of_job(as_text("jobid", jobid), "purge"), directory=directory)
    else:
        provenance_of(directory).check_own(directory)
        target = target_here(directory, "purge")
    if not force:
        with QueueClient(settings.service_settings()) as service:
            check_purge(service, store, target)
    removed = purge(store, target.bucket)
    JobFolder(directory).forget_bucket(target.bucket)
    return removed


def task_purge_many(directories: Iterable[Folder], *, force: bool = False) -> ManyFolders:
    """Delete the input and output of many jobs from the object storage, as `task_purge` does.

    Parameters
    ----------
    directories
        The folders of the jobs.
    force
        The same as for `task_purge`.

    Returns
    -------
    ManyFolders
        `done`: folders whose bucket is deleted. `skipped`: folders without a job, with a job that
        is not over, or with a completed job that was not fetched.

    Raises
    ------
    TypeError
        `directories` is no list of paths.
    SettingsError, ServiceError
        A setting is missing or wrong, or the queue failed.
    """
    names = as_folders("directories", directories)
    settings.require(settings.ALL)
    store = Store(settings.storage_settings(), connections=WORKERS)
    with QueueClient(settings.service_settings()) as service:
        folders = _folders(service, names)
        tally = purge_folders(store, folders, lambda job: service.bucket(job, "purge"), force=force)
    return ManyFolders(tuple(tally.done), tally.skipped, tally.failed, {})


def task_prune(bucket: str) -> None:
    """Delete a job's bucket with all files in it, for good.

    The state of the job is not checked: a job that is not over will fail. `task_purge` checks it.

    Parameters
    ----------
    bucket
        The name of the bucket; `task_bucket` returns the bucket of a job.

    Raises
    ------
    RefusedError
        The bucket holds the group's images.
    BucketMissingError
        There is no such bucket.
    SettingsError, StorageError
        A setting is missing or wrong, or the object storage failed.
    """
    purge(Store(settings.storage_settings()), as_text("bucket", bucket))


def _named(text: str, store: Store) -> Target:
    try:
        return target_named(text, store)
    except NotFoundError as error:
        # Older programs catch this: they could name only a bucket here.
        raise BucketMissingError(str(error)) from error


def _folders(service: QueueClient, names: list[str]) -> list[FolderJob]:
    return list(ask_for_folders(names, None, service.find_jobs, service.statuses))


def _state(target: Target) -> JobState | None:
    """Return the state of the job, None on any error. Fetching does not need it."""
    if target.jobid is None or settings.missing(settings.SERVICE):
        return None
    try:
        with QueueClient(settings.service_settings()) as service:
            return service.status(target.jobid)
    except LeruliError:
        return None


def _tell_state(target: Target, state: JobState | None) -> None:
    """Warn of a job that is not completed."""
    if state is None or state.status == "completed":
        return
    if not state.is_final:
        warn(f"Job {target.jobid} is {state.status}: this is what there is so far.")
        return
    sentence = f"Job {target.jobid} is not completed. It is {state}."
    explanation = explain(state.status, state.reason)
    warn(sentence if explanation is None else f"{sentence} {explanation}")


def _tell(fetched: Fetched, provenance: Provenance, directory: str) -> None:
    """Warn of files not replaced and of edited input. Raise LeruliError for files not fetched."""
    for sentence in fetched.differences():
        warn(sentence)
    if provenance.edited:
        warn(provenance.sentence(directory))
    if fetched.all_refused:
        raise LeruliError(
            "Not fetched: "
            + " ".join(f"{name}: {why}" for name, why in fetched.all_refused.items())
        )
