"""Which job `leruli run` shows: the one of the folder, or a new one.

If image, command, limits and input are the same, the folder's job goes on in two cases:

- The job is not over. So an interrupted `leruli run` is taken up by the same command.
- The job is over, and nobody was told its end. So a job that ended meanwhile does not run twice.

Otherwise the folder gets a new job, as a program that is called again runs again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from leruli.errors import RefusedError
from leruli.folder.history import set_aside
from leruli.folder.job_folder import JobFolder
from leruli.folder.provenance import named, provenance_of
from leruli.jobs.recover import recover
from leruli.jobs.resubmit import last_spec
from leruli.jobs.submit import JobSpec
from leruli.jobs.wait import Wait

if TYPE_CHECKING:
    from collections.abc import Callable

    from leruli.folder.provenance import Provenance
    from leruli.service.queue_client import JobState, QueueClient


def job_to_take_up(
    service: QueueClient, directory: str, spec: JobSpec, notice: Callable[[str], None]
) -> str | None:
    """Return the job of a folder to go on with, None if it gets a new job.

    The files of a job that is over and that was told move to leruli.history; its results stay in
    the folder. `notice` takes a sentence about results that nobody has fetched.

    Raises
    ------
    RefusedError
        The folder is a copy, or its job is not over and is another one than `spec` asks for.
    NotFoundError
        The queue does not know the job of the folder.
    """
    folder = JobFolder(directory)
    provenance = provenance_of(directory)
    provenance.check_own(directory)
    if folder.job() is None and folder.has_traces():
        recover(None, [directory], service.find_jobs)
    jobid = folder.job()
    if jobid is None:
        return None
    state = service.status(jobid)
    record = provenance.record
    if not state.is_final and record is not None and record.is_told:
        # An interrupted `leruli run` has cancelled it, and its container has not ended yet.
        for _ in Wait(service, [jobid]).ends():
            pass
    elif difference := _difference(directory, spec, provenance):
        if not state.is_final:
            raise RefusedError(_occupied(state, difference))
    elif not state.is_final or (record is not None and not record.is_seen):
        return jobid
    if state.status == "completed" and folder.bucket() and record and not record.is_seen:
        notice(
            f"The results of the last job, {jobid}, were not fetched. In leruli.history/{jobid} "
            "`leruli task-get` fetches them."
        )
    set_aside(directory, jobid, with_results=True)
    return None


def _difference(directory: str, spec: JobSpec, provenance: Provenance) -> str | None:
    """Say in what the job of a folder differs from the wanted one, None if it does not."""
    last = last_spec(directory)
    if not last:
        return "another program submitted it, so it is not known which command it runs"
    if provenance.edited:
        return f"{named(provenance.edited)} changed after it was submitted"
    before = JobSpec(**last)
    if before == spec:
        return None
    if before.image != spec.image:
        return f"it was submitted with the image {before.image}"
    what = "command" if before.command != spec.command else "limits"
    return f"it was submitted with {'another' if what == 'command' else 'other'} {what}"


def _occupied(state: JobState, difference: str) -> str:
    return (
        f"The job of this folder is {state.status}, and {difference}. A folder has one job at a "
        "time: wait for it with `leruli task-wait`, cancel it with `leruli task-cancel`, or run "
        "this in another folder."
    )
