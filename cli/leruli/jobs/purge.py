"""Deleting the bucket of a job."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from leruli.cancellation import CheckCancelled
from leruli.errors import NotFoundError, RefusedError
from leruli.folder.local_files import INPUT_KIND, LocalFiles
from leruli.folder.provenance import Provenance, named, provenance_of
from leruli.jobs.fetch import not_here, select_results
from leruli.jobs.references import job_of_folder, resolve
from leruli.jobs.targets import check_bucket

if TYPE_CHECKING:
    from leruli.jobs.targets import Target
    from leruli.service.queue_client import JobState, QueueClient
    from leruli.storage.store import Store

#: The words for a bucket that has to stay.
NOT_FETCHED = "completed, but not fetched"


def check_purgeable(service: QueueClient, jobid: str) -> JobState:
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
    service: QueueClient, store: Store, target: Target, *, is_bucket_named: bool = False
) -> None:
    """Raise RefusedError if a job needs its bucket, or if results would be lost.

    `is_bucket_named`: the user named the bucket too, so it must be the bucket of the job.
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
    provenance = provenance_of(target.directory)
    if provenance.record is None or provenance.record.bucket != target.bucket:
        provenance = Provenance()  # of another job
    completed = state.status == "completed"
    if why_keep(store, target.bucket, target.directory, provenance, completed) == NOT_FETCHED:
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
    provenance: Provenance,
    completed: bool,
    check_cancelled: CheckCancelled = lambda: None,
) -> str | None:
    """Return in a few words why a bucket has to stay, None if it may be purged.

    It stays while it holds results that nobody has fetched. `provenance` is that of the folder, if
    the job is its own. Raises RefusedError in two cases:

    - Only some results are in the folder. A user who fetched some wants the rest too.
    - The folder lacks the input as it was submitted.
    """
    local = LocalFiles.of(directory, bucket)
    results = select_results(store, bucket)
    absent = set(not_here(results, directory, check_cancelled, local))
    if absent:
        # An unchanged input file does not show whether the results were fetched.
        inputs = provenance.record.inputs if provenance.record is not None else {}
        if all(item.name in absent or item.name in inputs for item in results):
            if completed:
                return NOT_FETCHED
        else:
            raise RefusedError(
                "Its results were fetched only in part, so its bucket stays. The folder does not "
                f"have {named(sorted(absent))} as the storage does. Fetch them with "
                "`leruli task-get`, or purge all the same with --force."
            )
    _check_input(local, provenance, check_cancelled)
    return None


def _check_input(
    local: LocalFiles, provenance: Provenance, check_cancelled: CheckCancelled
) -> None:
    """Raise RefusedError if only the bucket has the submitted input."""
    if provenance.record is None:
        return
    lost = [
        name
        for name in provenance.edited
        if not any(
            provenance.record.inputs[name].is_at(
                str(Path(local.directory, beside)), check_cancelled
            )
            for kind in ("", INPUT_KIND)
            for beside in local.files_beside(name, kind)
        )
    ]
    if lost:
        raise RefusedError(
            f"{named(lost)} changed since the job was submitted, so its bucket stays: it holds "
            "the submitted file. `leruli task-get --with-input` puts that beside the changed file. "
            "To purge all the same use --force."
        )


def purge(store: Store, bucket: str) -> int:
    """Delete a job's bucket with everything in it; return the number of objects deleted."""
    if bucket.startswith("code-"):
        raise RefusedError(
            "That bucket holds the images of your group, not a job. It is not purged."
        )
    return store.remove_bucket(bucket)
