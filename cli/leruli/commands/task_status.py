"""`leruli task-status`."""

from __future__ import annotations

import click

from leruli import settings
from leruli.commands._common import job_here, verb
from leruli.output import Output


@click.command("task-status")
@click.argument("jobid", required=False)
@verb(interrupted="Nothing was changed.")
def command(out: Output, jobid: str | None) -> None:
    """Print the state of a job: of JOBID, or of the current folder's.

    received, submitted, running, completed, failed or cancelled, with the reason where there is
    one. The exit code is 0 whenever the state could be read, whatever it is.
    """
    service_settings = settings.service_settings()
    jobid = job_here(jobid)

    from leruli.api import Service

    with Service(service_settings, out.note) as service:
        state = service.status(jobid)
    out.result(str(state), {"jobid": jobid, "status": state.status, "reason": state.reason})
