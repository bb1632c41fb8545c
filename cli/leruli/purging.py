"""Deleting the bucket of a job."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from leruli.errors import NotFoundError, RefusedError
from leruli.fetching import not_here, select_results
from leruli.local_files import INPUT_KIND, LocalFiles
from leruli.references import job_of_folder, resolve
from leruli.standing import Standing, named, standing_of
from leruli.targets import check_bucket

if TYPE_CHECKING:
    from leruli.api import JobState, Service
    from leruli.storage import Store
    from leruli.targets import Target

#: Said of a bucket that has to stay.
NOT_FETCHED = "completed, but not fetched"


def check_purgeable(service: Service, jobid: str) -> JobState:
    """Return the state of a job that is over.

    Raises RefusedError while the job needs its bucket, NotFoundError if there is no job.
    """
    state = service.status(jobid)
    if not state.is_final:
        raise RefusedError(
            f"Job {jobid} is {state.status}: without its bucket it would fail. Wait until it is "
            "over, cancel it with `leruli task-cancel`, or purge all the same with --force."
        )
    return state


def check_purge(
    service: Service, store: Store, target: Target, *, is_bucket_named: bool = False
) -> None:
    """Raise RefusedError if a job needs its bucket, or if results would be lost with it.

    A bucket that was named beside the job has to be that job's.
    """
    try:
        if target.jobid:
            jobid = resolve(service, target.jobid)
        else:
            jobid = job_of_folder(service, target.directory)
    except NotFoundError as error:
        raise RefusedError(f"{error} To purge its bucket all the same use --force.") from None
    if is_bucket_named:
        check_bucket(service, jobid, target.bucket)
    state = check_purgeable(service, jobid)
    standing = standing_of(target.directory)
    if standing.record is None or standing.record.bucket != target.bucket:
        standing = Standing()  # of another job
    completed = state.status == "completed"
    if why_keep(store, target.bucket, target.directory, standing, completed) == NOT_FETCHED:
        raise RefusedError(
            f"The job is completed, and its results are not in {_shown(target)} as the storage has "
            f"them. {_where_to_fetch(target, jobid)}, or purge all the same with --force."
        )


def _shown(target: Target) -> str:
    return "this folder" if target.directory == os.curdir else target.directory


def _where_to_fetch(target: Target, jobid: str) -> str:
    if not target.is_here:
        return f"Fetch them with `leruli task-get {jobid}`, run this in the folder that has them"
    there = "" if target.directory == os.curdir else " there"
    return f"Fetch them{there} with `leruli task-get`"


def why_keep(
    store: Store,
    bucket: str,
    directory: str,
    standing: Standing,
    completed: bool,
    advance: Callable[[int], None] = lambda _: None,
) -> str | None:
    """Say in a few words why a bucket has to stay: it holds what nobody has fetched.

    `standing` is that of the folder if the job is its own. Returns None if the bucket may go.
    Raises RefusedError if some of the results are in the folder and some are not: a user who
    began to fetch them wants the rest too. Also if the folder lacks the input as it was submitted.
    """
    local = LocalFiles.of(directory, bucket)
    results = select_results(store, bucket)
    absent = set(not_here(results, directory, advance, local))
    if absent:
        # What the job only sent back as it was says nothing on whether results were fetched.
        inputs = standing.record.inputs if standing.record is not None else {}
        if all(item.name in absent or item.name in inputs for item in results):
            if completed:
                return NOT_FETCHED
        else:
            raise RefusedError(
                "Its results were fetched only in part, so its bucket stays. The folder does not "
                f"have {named(sorted(absent))} as the storage does. Fetch them with "
                "`leruli task-get`, or purge all the same with --force."
            )
    _check_input(local, standing, advance)
    return None


def _check_input(local: LocalFiles, standing: Standing, advance: Callable[[int], None]) -> None:
    """Raise RefusedError if what was submitted is in the bucket alone."""
    if standing.record is None:
        return
    lost = [
        name
        for name in standing.edited
        if not any(
            standing.record.inputs[name].is_at(str(Path(local.directory, beside)), advance)
            for kind in ("", INPUT_KIND)
            for beside in local.files_beside(name, kind)
        )
    ]
    if lost:
        raise RefusedError(
            f"{named(lost)} changed since the job was submitted, so its bucket stays: it holds "
            "what was submitted. `leruli task-get --with-input` puts that beside the changed "
            "file. To purge all the same use --force."
        )


def purge(store: Store, bucket: str) -> int:
    """Delete a job's bucket with all in it, for good; returns the number of objects deleted."""
    if bucket.startswith("code-"):
        raise RefusedError(
            "That bucket holds the images of your group, not a job. It is not purged."
        )
    return store.remove_bucket(bucket)
