"""`leruli task-wait`."""

from __future__ import annotations

import click

from leruli import settings
from leruli.commands._batches import batch_option
from leruli.commands._common import HERE, client_command, job_here
from leruli.commands._then import then_option
from leruli.commands._waiting import JOBS_GO_ON, jobs_of_batch, timeout_option, wait_for
from leruli.errors import NotFoundError
from leruli.terminal.output import Output


@click.command("task-wait")
@batch_option
@click.option("--any", "first_one", is_flag=True, help="Until the first of the jobs is over.")
@timeout_option
@then_option
@click.argument("jobids", nargs=-1, metavar="[JOBID]...")
@client_command(interrupted=JOBS_GO_ON)
def command(
    out: Output,
    batch: str | None,
    first_one: bool,
    timeout: float | None,
    then: str | None,
    jobids: tuple[str, ...],
) -> int:
    """Wait until jobs are over: each JOBID, or the current folder's job.

    Prints the state of one job, or counts of many. The exit code says how they ended: 0 completed,
    10 at least one failed, 11 none failed and at least one was cancelled, 12 --timeout has passed.

    Each JOBID may also be four or more first or last digits of an id, the job's name, or its
    folder. --any prints name, job id, state and reason of each job that is over by then. Ctrl-C
    ends the waiting and not the jobs.
    """
    if batch is not None and jobids:
        raise click.UsageError("Give --batch or JOBID, not both.")
    service_settings = settings.service_settings()

    from leruli.service.queue_client import QueueClient

    with QueueClient(service_settings, out.note) as service:
        problems: dict[str, str] = {}
        if batch is not None:
            jobs, problems = jobs_of_batch(service, batch)
            if not jobs:
                raise NotFoundError("None of these folders has a job to wait for.")
        else:
            jobs = {name: job_here(name, service) for name in dict.fromkeys(jobids)}
            jobs = jobs or {HERE: job_here(None, service)}
        return wait_for(
            *(out, service, jobs),
            timeout=timeout,
            first_one=first_one,
            problems=problems,
            then=then,
        )
