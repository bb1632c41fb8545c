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
@click.argument("jobid", required=False)
@click.argument("bucket", required=False)
@verb(interrupted="Some files may be gone already. Run the command again to remove the rest.")
def command(out: Output, force: bool, jobid: str | None, bucket: str | None) -> None:
    """Delete a job's input and output from the object storage, for good.

    Of the current folder's job, or of JOBID with BUCKET. Refused while the job is not over. What
    was downloaded stays. Nothing is asked. task-prune is the same command.
    """
    if (jobid is None) != (bucket is None):
        raise click.UsageError("Give both JOBID and BUCKET, or neither.")
    storage_settings = settings.storage_settings()
    bucket = bucket_here(bucket)

    from leruli.purging import check_purgeable, purge
    from leruli.storage import Store

    if not force:
        service_settings = settings.service_settings()
        jobid = _job_to_check(jobid)

        from leruli.api import Service

        with Service(service_settings, out.note) as service:
            check_purgeable(service, jobid)
    removed = purge(Store(storage_settings), bucket)
    # The job can still be asked about; what leruli.bucket led to is no more.
    JobFolder(HERE).forget_bucket(bucket)
    out.result(
        f"Purged bucket {bucket}: {removed} {'object' if removed == 1 else 'objects'} deleted.",
        {"bucket": bucket, "deleted": removed},
    )


def _job_to_check(jobid: str | None) -> str:
    try:
        return job_here(jobid)
    except NotFoundError:
        raise RefusedError(
            "This folder has a bucket but no leruli.job: its submission was interrupted, and "
            "whether a job uses the bucket cannot be told. Submit again to finish it, or purge all "
            "the same with --force."
        ) from None
