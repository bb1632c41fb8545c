"""`leruli task-bucket`."""

from __future__ import annotations

import click

from leruli import settings
from leruli.commands._common import job_here, verb
from leruli.output import Output


@click.command("task-bucket")
@click.argument("jobid", required=False)
@verb(interrupted="Nothing was changed.")
def command(out: Output, jobid: str | None) -> None:
    """Print the bucket of a job: of JOBID, or of the current folder's.

    Of your own jobs; an admin may ask for any job of the group, which is written down. It is what
    leruli.bucket held, should that be lost.
    """
    service_settings = settings.service_settings()

    from leruli.api import Service

    with Service(service_settings, out.note) as service:
        jobid = job_here(jobid, service)
        bucket = service.bucket(jobid)
    out.result(bucket, {"jobid": jobid, "bucket": bucket})
