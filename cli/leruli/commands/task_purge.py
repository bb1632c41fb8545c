"""`leruli task-purge`, also known as `task-prune`."""

from __future__ import annotations

import click

from leruli import settings
from leruli.commands._common import HERE, bucket_here, job_here, verb
from leruli.errors import NotFoundError, RefusedError
from leruli.jobfolder import JobFolder
from leruli.output import Output


@click.command("task-purge")
@click.option("--force", is_flag=True, help="Purge whatever state the job is in.")
@click.option("--job", metavar="JOBID", help="Of this job; an admin may name any of the group.")
@click.argument("jobid", required=False)
@click.argument("bucket", required=False)
@verb(interrupted="Some files may be gone already. Run the command again to remove the rest.")
def command(
    out: Output, force: bool, job: str | None, jobid: str | None, bucket: str | None
) -> None:
    """Delete a job's input and output from the object storage, for good.

    Of the current folder's job, of --job JOBID, or of JOBID with BUCKET. Refused while the job is
    not over. What was downloaded stays. Nothing is asked. task-prune is the same command.
    """
    if (jobid is None) != (bucket is None):
        raise click.UsageError("Give both JOBID and BUCKET, or neither; or --job JOBID alone.")
    if job is not None and jobid is not None:
        raise click.UsageError("Give --job JOBID, or JOBID and BUCKET, not all of them.")
    storage_settings = settings.storage_settings()
    if job is not None:
        bucket = _locate(out, job, force=force)
    else:
        bucket = bucket_here(bucket)
        if not force:
            _check(out, _job_to_check(jobid))

    from leruli.purging import purge
    from leruli.storage import Store

    removed = purge(Store(storage_settings), bucket)
    # The job can still be asked about; what leruli.bucket led to is no more.
    JobFolder(HERE).forget_bucket(bucket)
    out.result(
        f"Purged bucket {bucket}: {removed} {'object' if removed == 1 else 'objects'} deleted.",
        {"bucket": bucket, "deleted": removed},
    )


def _check(out: Output, jobid: str) -> None:
    service_settings = settings.service_settings()

    from leruli.api import Service
    from leruli.purging import check_purgeable

    with Service(service_settings, out.note) as service:
        check_purgeable(service, jobid)


def _locate(out: Output, jobid: str, *, force: bool) -> str:
    """Return the bucket of a job that may be purged, from the service."""
    if not force:
        _check(out, jobid)
    service_settings = settings.service_settings()

    from leruli.api import Service

    with Service(service_settings, out.note) as service:
        return service.bucket(jobid, "purge")


def _job_to_check(jobid: str | None) -> str:
    try:
        return job_here(jobid)
    except NotFoundError:
        raise RefusedError(
            "This folder has a bucket but no leruli.job: its submission was interrupted, and "
            "whether a job uses the bucket cannot be told. Submit again to finish it, or purge all "
            "the same with --force."
        ) from None
