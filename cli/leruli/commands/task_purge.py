"""`leruli task-purge`, also known as `task-prune`."""

from __future__ import annotations

import click

from leruli import settings
from leruli.commands._batches import batch_option, refuse_with_batch, tell
from leruli.commands._common import HERE, verb
from leruli.counting import counted
from leruli.jobfolder import JobFolder
from leruli.output import Output
from leruli.progress import progress
from leruli.targets import Target, target_here, target_of_job


@click.command("task-purge")
@batch_option
@click.option("--force", is_flag=True, help="Purge whatever state the job is in, fetched or not.")
@click.option("--job", metavar="JOBID", help="As JOBID; an admin may name any of the group.")
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

    Of the current folder's job, or of JOBID: a job id, its last digits, the job's name, or its
    folder. Refused while the job is not over, and while the results are not in the folder (of the
    job, or the current one) with the content of the storage. Refused as well for a copied folder,
    and while the storage alone has the input that was submitted. What was downloaded stays. Nothing
    is asked. task-prune is the same command. With --batch, the jobs of many folders; one that
    completed is passed over until it was fetched, and one that was fetched only in part is told.
    """
    refuse_with_batch(batch, job=job, jobid=jobid)
    if batch is not None:
        return _many(out, batch, force=force)
    if job is not None and jobid is not None:
        raise click.UsageError("Give --job or JOBID, not both.")
    storage_settings = settings.storage_settings()

    from leruli.purging import check_purge, purge
    from leruli.storage import Store

    if bucket is not None:
        target = Target(bucket, jobid, is_here=False)
    else:
        target = _target(out, jobid if job is None else job)
    store = Store(storage_settings)
    if not force:
        service_settings = settings.service_settings()

        from leruli.api import Service

        with Service(service_settings, out.note) as service:
            check_purge(service, store, target, is_bucket_named=bucket is not None)
    removed = purge(store, target.bucket)
    # The job can still be asked about; what leruli.bucket led to is no more.
    JobFolder(target.directory).forget_bucket(target.bucket)
    out.done(
        f"Purged bucket {target.bucket}: {counted(removed, 'object')} deleted.",
        {"bucket": target.bucket, "deleted": removed},
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
            "Purging", len(names), unit="folder", visible=out.shows_progress, notice=out.remarks
        ) as advance:
            tally = purge_folders(
                Store(storage_settings, connections=WORKERS),
                folders,
                lambda jobid: service.bucket(jobid, "purge"),
                force=force,
                advance=advance,
            )
    return tell(out, "Purged", tally, {})


def _target(out: Output, reference: str | None) -> Target:
    """Return the job that `reference` names, or without one that of the current folder.

    Raises CopiedFolderError for a folder that holds the job of another one.
    """
    from leruli.references import folder_named
    from leruli.standing import standing_of

    directory = HERE
    if reference is not None:
        folder = folder_named(reference)
        if folder is None:
            return target_of_job(reference, "purge", out.note)
        directory = folder.directory
    standing_of(directory).check_own(directory)
    return target_here(directory, "purge", out.note)
