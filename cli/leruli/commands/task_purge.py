"""`leruli task-purge`, also known as `task-prune`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from leruli import settings
from leruli.commands._batches import batch_option, refuse_with_batch, tell
from leruli.commands._common import HERE, bucket_here, job_here, verb
from leruli.errors import NotFoundError, RefusedError
from leruli.jobfolder import JobFolder
from leruli.output import Output
from leruli.progress import progress

if TYPE_CHECKING:
    from leruli.api import JobState


@click.command("task-purge")
@batch_option
@click.option("--force", is_flag=True, help="Purge whatever state the job is in, fetched or not.")
@click.option("--job", metavar="JOBID", help="Of this job; an admin may name any of the group.")
@click.argument("jobid", required=False)
@click.argument("bucket", required=False)
@verb(interrupted="Some files may be gone already. Run the command again to remove the rest.")
def command(
    out: Output,
    batch: str | None,
    force: bool,
    job: str | None,
    jobid: str | None,
    bucket: str | None,
) -> int:
    """Delete a job's input and output from the object storage, for good.

    Of the current folder's job, of --job JOBID, or of JOBID with BUCKET. Refused while the job is
    not over, and while the folder does not have its results with the content of the storage. What
    was downloaded stays. Nothing is asked. task-prune is the same command. With --batch, the jobs
    of many folders; one that completed is passed over until it was fetched, and one that was
    fetched only in part is told.
    """
    refuse_with_batch(batch, job=job, jobid=jobid)
    if batch is not None:
        return _many(out, batch, force=force)
    if (jobid is None) != (bucket is None):
        raise click.UsageError("Give both JOBID and BUCKET, or neither; or --job JOBID alone.")
    if job is not None and jobid is not None:
        raise click.UsageError("Give --job JOBID, or JOBID and BUCKET, not all of them.")
    storage_settings = settings.storage_settings()
    state: JobState | None = None
    if job is not None:
        if not force:
            state = _check(out, job)
        bucket = _locate(out, job)
    else:
        bucket = bucket_here(bucket)
        if not force:
            state = _check(out, jobid)

    from leruli.purging import NOT_FETCHED, purge, why_keep
    from leruli.storage import Store

    store = Store(storage_settings)
    # Of a job that is named, and is not this folder's, the results may be anywhere.
    if state is not None and bucket == JobFolder(HERE).bucket():
        why = why_keep(store, bucket, HERE, state.status == "completed")
        if why == NOT_FETCHED:
            raise RefusedError(
                "The job is completed, and its results are not in this folder as the storage has "
                "them. Fetch them with `leruli task-get`, or purge all the same with --force."
            )
    removed = purge(store, bucket)
    # The job can still be asked about; what leruli.bucket led to is no more.
    JobFolder(HERE).forget_bucket(bucket)
    out.result(
        f"Purged bucket {bucket}: {removed} {'object' if removed == 1 else 'objects'} deleted.",
        {"bucket": bucket, "deleted": removed},
    )
    return 0


def _many(out: Output, batch: str, *, force: bool) -> int:
    settings.require(settings.ALL)
    service_settings, storage_settings = settings.service_settings(), settings.storage_settings()

    from leruli.api import Service
    from leruli.folders import find_folders
    from leruli.journal import JournalView
    from leruli.manyjobs import WORKERS, ask_for_folders, purge_folders
    from leruli.storage import Store

    names = find_folders(batch)
    journal = JournalView.of(batch)
    with Service(service_settings, out.note) as service:
        folders = list(ask_for_folders(names, journal, service.find_jobs, service.statuses))
    with progress(
        "Purging", len(names), unit="folders", visible=out.shows_progress, notice=out.remarks
    ) as advance:
        store = Store(storage_settings, connections=WORKERS)
        tally = purge_folders(store, folders, journal, force=force, advance=advance)
    return tell(out, "Purged", tally, {})


def _check(out: Output, jobid: str | None) -> JobState:
    """Return the state of the job, None for the current folder's; raises unless it is over."""
    service_settings = settings.service_settings()

    from leruli.api import Service
    from leruli.purging import check_purgeable

    with Service(service_settings, out.note) as service:
        try:
            jobid = job_here(jobid, service)
        except NotFoundError as error:
            raise RefusedError(f"{error} To purge its bucket all the same use --force.") from None
        return check_purgeable(service, jobid)


def _locate(out: Output, jobid: str) -> str:
    """Return the bucket of a job that may be purged, from the service."""
    service_settings = settings.service_settings()

    from leruli.api import Service

    with Service(service_settings, out.note) as service:
        return service.bucket(jobid, "purge")
