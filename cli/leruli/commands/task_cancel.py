"""`leruli task-cancel`."""

from __future__ import annotations

import click

from leruli import settings
from leruli.commands._common import job_here, verb
from leruli.output import Output


@click.command("task-cancel")
@click.argument("jobid", required=False)
@verb(interrupted="Look with `leruli task-status` whether the job was cancelled.")
def command(out: Output, jobid: str | None) -> None:
    """Cancel a job: JOBID, or the current folder's. Prints its state after that."""
    service_settings = settings.service_settings()
    jobid = job_here(jobid)

    from leruli.api import Service

    with Service(service_settings, out.note) as service:
        state = service.cancel(jobid)
    out.result(str(state), {"jobid": jobid, "status": state.status, "reason": state.reason})
