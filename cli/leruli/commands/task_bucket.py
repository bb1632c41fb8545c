"""`leruli task-bucket`."""

from __future__ import annotations

import click

from leruli import settings
from leruli.commands._common import client_command, job_here
from leruli.terminal.output import Output


@click.command("task-bucket")
@click.argument("jobid", required=False)
@client_command(interrupted="Nothing was changed.")
def command(out: Output, jobid: str | None) -> None:
    """Print the bucket of a job: of JOBID, or of the current folder's.

    Use it if leruli.bucket is lost. You may ask for your own jobs. An admin may ask for any job of
    the group, which is written to the audit log.
    """
    service_settings = settings.service_settings()

    from leruli.service.queue_client import QueueClient

    with QueueClient(service_settings, out.note) as service:
        jobid = job_here(jobid, service)
        bucket = service.bucket(jobid)
    out.result(bucket, {"jobid": jobid, "bucket": bucket})
