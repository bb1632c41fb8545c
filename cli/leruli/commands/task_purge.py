"""`leruli task-purge`, also known as `task-prune`."""

from __future__ import annotations

import click

from leruli import settings
from leruli.commands._batches import batch_option, refuse_with_batch, tell
from leruli.commands._common import HERE, client_command
from leruli.folder.job_folder import JobFolder
from leruli.jobs.targets import Target, target_here, target_of_job
from leruli.terminal.output import Output
from leruli.terminal.progress import progress
from leruli.wording import counted


@click.command("task-purge")
@batch_option
@click.option("--force", is_flag=True, help="Purge in any state of the job, fetched or not.")
@click.option(
    "--job", metavar="JOBID", help="The same as JOBID. An admin may name any job of the group."
)
@click.argument("jobid", required=False)
@click.argument("bucket", required=False)
@client_command(
    interrupted="Some files may be gone already. Run the command again to remove the rest."
)
def command(
    out: Output,
    batch: str | None,
    force: bool,
    job: str | None,
    jobid: str | None,
    bucket: str | None,
) -> int:
    """Delete a job's input and output from the object storage, for good.

    The job is the current folder's, or JOBID: a job id, its last digits, the job's name, or its
    folder. Downloaded files stay. There is no question. task-prune is the same command.

    Refused without --force in four cases: the job is not over; its results are not in the folder
    (of the job, or the current one) with the content of the storage; only the storage has the input
    as it was submitted; the folder is a copy, which is refused with --force too.

    --batch purges the jobs of many folders. A completed job whose results were not fetched is
    skipped. A job whose results were fetched only in part is reported as an error.
    """
    refuse_with_batch(batch, job=job, jobid=jobid)
    if batch is not None:
        return _many(out, batch, force=force)
    if job is not None and jobid is not None:
        raise click.UsageError("Give --job or JOBID, not both.")
    storage_settings = settings.storage_settings()

    from leruli.jobs.purge import check_purge, purge
    from leruli.storage.store import Store

    if bucket is not None:
        target = Target(bucket, jobid, is_here=False)
    else:
        target = _target(out, jobid if job is None else job)
    store = Store(storage_settings)
    if not force:
        service_settings = settings.service_settings()

        from leruli.service.queue_client import QueueClient

        with QueueClient(service_settings, out.note) as service:
            check_purge(service, store, target, is_bucket_named=bucket is not None)
    removed = purge(store, target.bucket)
    # leruli.job stays, because the job still has a state. The bucket does not exist any more.
    JobFolder(target.directory).forget_bucket(target.bucket)
    out.done(
        f"Purged bucket {target.bucket}: {counted(removed, 'object')} deleted.",
        {"bucket": target.bucket, "deleted": removed},
    )
    return 0


def _many(out: Output, batch: str, *, force: bool) -> int:
    settings.require(settings.ALL)
    service_settings, storage_settings = settings.service_settings(), settings.storage_settings()

    from leruli.folder.journal import JournalView
    from leruli.folder.patterns import find_folders
    from leruli.jobs.many import WORKERS, ask_for_folders
    from leruli.jobs.purge_many import purge_folders
    from leruli.service.queue_client import QueueClient
    from leruli.storage.store import Store

    names = find_folders(batch)
    journal = JournalView.of(batch)
    with QueueClient(service_settings, out.note) as service:
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
    """Return the job that `reference` names, by default the job of the current folder.

    Raises CopiedFolderError for a copied folder.
    """
    from leruli.folder.provenance import provenance_of
    from leruli.jobs.references import folder_named

    directory = HERE
    if reference is not None:
        folder = folder_named(reference)
        if folder is None:
            return target_of_job(reference, "purge", out.note)
        directory = folder.directory
    provenance_of(directory).check_own(directory)
    return target_here(directory, "purge", out.note)
