"""Fetching and purging what jobs left in the storage, from Python."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from leruli import settings
from leruli.api import Service
from leruli.errors import BucketMissingError, LeruliError, NotFoundError, RefusedError
from leruli.exit_codes import explain
from leruli.fetching import Fetched, Wanted, bring_input, fetch, select_results
from leruli.jobfolder import JobFolder
from leruli.local_files import LocalFiles
from leruli.manyjobs import WORKERS, ask_for_folders, fetch_folders, purge_folders
from leruli.purging import check_purge, purge
from leruli.python_api.arguments import Folder, as_folder, as_folders, as_text, warn
from leruli.python_api.job import ManyFolders
from leruli.recovery import recover
from leruli.standing import Standing, standing_of
from leruli.storage import Store
from leruli.targets import Target, target_here, target_named, target_of_job

if TYPE_CHECKING:
    from leruli.api import JobState
    from leruli.manyjobs import FolderJob


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

    A local file that changed since the submission stays, and the result is put beside it as
    NAME.leruli-XXXXXXXX. Input that the job left unchanged is not among the results.

    Parameters
    ----------
    directory
        The folder that the results come into.
    bucket
        The bucket or the job whose results are wanted; None: the job of the folder.
    everything
        Fetch the archive of the input too.
    jobid
        The job whose results are wanted, as for `task_status`; an admin may name any of the group.
    with_input
        Fetch the submitted input too, beside what was changed.
    overwrite
        Replace local files, also those that were changed.

    Returns
    -------
    list of str
        Where the results are, relative to the folder, also those that were there already; after
        them the input if it was asked for. It is empty if there are no results (yet).

    Raises
    ------
    TypeError
        An argument is of the wrong type.
    NotFoundError, BucketMissingError
        There is no such job, or no such bucket in the storage.
    CopiedFolderError
        The folder holds the job of another one, and no job was named.
    RefusedError
        `bucket` and `jobid` were both given.
    LeruliError
        Some objects could not be put into the folder, after all others were.
    SettingsError, ServiceError, StorageError
        A setting, the queue, or the object storage.

    Warns
    -----
    LeruliWarning
        The job is not completed (not for a bucket), a result was put beside a local file, or the
        input in the folder changed after its job was submitted.
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
        standing_of(directory).check_own(directory)
        target = target_here(directory, "get")
    # Asked first: a job that ends in between is then at worst called unfinished.
    state = _state(target)
    items = select_results(store, target.bucket, everything=everything)
    local = LocalFiles.of(directory, target.bucket, target.jobid, overwrite=overwrite)
    is_over = state is not None and state.is_final
    fetched = fetch(store, target.bucket, items, directory, local=local, is_over=is_over)
    if with_input:
        fetched.input = bring_input(store, local, items, lambda _: None)
    _tell_state(target, state)
    _tell(fetched, standing_of(directory) if target.is_here else Standing(), directory)
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
    """Fetch the results of many folders, each into its own, as far as their jobs are over.

    Parameters
    ----------
    directories
        The folders of the jobs.
    again
        Look at folders too whose results were all fetched before. What is there is not downloaded.
    everything, with_input, overwrite
        As those of `task_get`.

    Returns
    -------
    ManyFolders
        `done`: folders that have their results. Their jobs may have failed: `task_status_many`
        tells. `to_look_at`: a result was put beside a local file, or the input was edited.
        `skipped`: the job is not over, or left no results, or all were fetched before. `failed`:
        copies of other folders, too.

    Raises
    ------
    TypeError
        `directories` is no list of paths.
    SettingsError, ServiceError
        A setting, or the queue.
    """
    names = as_folders("directories", directories)
    settings.require(settings.ALL)
    store = Store(settings.storage_settings(), connections=WORKERS)
    wanted = Wanted(everything, again, overwrite=overwrite, with_input=with_input)
    with Service(settings.service_settings()) as service:
        recover(None, names, service.find_jobs)
        folders = _folders(service, names)
        tally = fetch_folders(store, folders, None, service.bucket, wanted)
    return ManyFolders(tuple(tally.done), tally.skipped, tally.failed, tally.differing)


def task_purge(directory: Folder, *, jobid: str | None = None, force: bool = False) -> int:
    """Delete a job's input and output from the object storage, for good.

    Refused while something would be lost: the job is not over, or its results are not in the folder
    with the content of the storage, or the storage alone has the input that was submitted. What is
    in the folder stays. `task_prune` deletes a bucket without any of these questions.

    Parameters
    ----------
    directory
        The folder of the job, or the one that has its results.
    jobid
        The job, as for `task_status`; None: that of the folder.
    force
        Purge in any state, fetched or not; still not the job of a copied folder.

    Returns
    -------
    int
        How many objects were deleted.

    Raises
    ------
    TypeError
        An argument is of the wrong type.
    RefusedError
        Something would be lost. Nothing was deleted.
    CopiedFolderError
        The folder holds the job of another one, and no job was named.
    NotFoundError, BucketMissingError
        There is no such job, or no such bucket in the storage.
    SettingsError, ServiceError, StorageError
        A setting, the queue, or the object storage.
    """
    directory = as_folder("directory", directory)
    store = Store(settings.storage_settings())
    if jobid is not None:
        target = replace(target_of_job(as_text("jobid", jobid), "purge"), directory=directory)
    else:
        standing_of(directory).check_own(directory)
        target = target_here(directory, "purge")
    if not force:
        with Service(settings.service_settings()) as service:
            check_purge(service, store, target)
    removed = purge(store, target.bucket)
    JobFolder(directory).forget_bucket(target.bucket)
    return removed


def task_purge_many(directories: Iterable[Folder], *, force: bool = False) -> ManyFolders:
    """Delete the input and output of many folders from the object storage, as `task_purge` does.

    Parameters
    ----------
    directories
        The folders of the jobs.
    force
        As that of `task_purge`.

    Returns
    -------
    ManyFolders
        `done`: folders whose bucket is deleted. `skipped`: folders without a job, with one that is
        not over, and with one that completed and was not fetched.

    Raises
    ------
    TypeError
        `directories` is no list of paths.
    SettingsError, ServiceError
        A setting, or the queue.
    """
    names = as_folders("directories", directories)
    settings.require(settings.ALL)
    store = Store(settings.storage_settings(), connections=WORKERS)
    with Service(settings.service_settings()) as service:
        folders = _folders(service, names)
        tally = purge_folders(store, folders, lambda job: service.bucket(job, "purge"), force=force)
    return ManyFolders(tuple(tally.done), tally.skipped, tally.failed, {})


def task_prune(bucket: str) -> None:
    """Delete a job's bucket with all files in it, for good.

    The state of the job is not looked at: one that has not ended yet will fail. `task_purge` looks
    first.

    Parameters
    ----------
    bucket
        The name of the bucket; `task_bucket` tells that of a job.

    Raises
    ------
    RefusedError
        It is the bucket of the group's images.
    BucketMissingError
        There is no such bucket.
    SettingsError, StorageError
        A setting, or the object storage.
    """
    purge(Store(settings.storage_settings()), as_text("bucket", bucket))


def _named(text: str, store: Store) -> Target:
    try:
        return target_named(text, store)
    except NotFoundError as error:
        # What programs catch that were written before a job could be named here.
        raise BucketMissingError(str(error)) from error


def _folders(service: Service, names: list[str]) -> list[FolderJob]:
    return list(ask_for_folders(names, None, service.find_jobs, service.statuses))


def _state(target: Target) -> JobState | None:
    """Return the state of the job if it can be had; fetching does not depend on it."""
    if target.jobid is None or settings.missing(settings.SERVICE):
        return None
    try:
        with Service(settings.service_settings()) as service:
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
    told = f"Job {target.jobid} is not completed. It is {state}."
    explanation = explain(state.status, state.reason)
    warn(told if explanation is None else f"{told} {explanation}")


def _tell(fetched: Fetched, standing: Standing, directory: str) -> None:
    """Warn of what was not replaced and of edited input; raise LeruliError for what is missing."""
    for sentence in fetched.differences():
        warn(sentence)
    if standing.edited:
        warn(standing.sentence(directory))
    if fetched.all_refused:
        raise LeruliError(
            "Not fetched: "
            + " ".join(f"{name}: {why}" for name, why in fetched.all_refused.items())
        )
