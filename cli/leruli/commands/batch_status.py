"""`leruli batch-status`."""

from __future__ import annotations

import click

from leruli import settings
from leruli.commands._batch_argument import batch_argument
from leruli.commands._common import HERE, client_command
from leruli.commands._watching import tell_watched, watch_batch, watch_option
from leruli.terminal.batch_report import failure_lines, headline, pace
from leruli.terminal.output import Output


@click.command("batch-status")
@watch_option
@batch_argument
@client_command(interrupted="Nothing was changed.")
def command(out: Output, watch: bool, batch: str | None) -> int:
    """Print how far a batch is: its jobs in each state, its rate, and its last failures.

    BATCH is the id of a batch, four or more of its first digits, or its name. Without it, it is
    the batch that was submitted last in the current folder, or in the nearest folder above it.
    The exit code is 0 if the states could be read, whatever they are.

    --watch shows it live until all jobs are over. Then the exit code is 10 if a job failed, 11 if
    one was cancelled.
    """
    service_settings = settings.service_settings()

    from leruli.jobs.batches import resolve_batch
    from leruli.service.batches import BatchClient

    with BatchClient(service_settings, out.note) as service:
        batchid = resolve_batch(service, batch, HERE)
        if watch:
            found, code = watch_batch(out, lambda: service.status(batchid))
            tell_watched(out, found)
            return code
        found = service.status(batchid)
    out.result(headline(found), found)
    speed = pace(found)
    if speed is not None:
        out.summary(speed)
    for number, line in enumerate(failure_lines(found)):
        if number == 0:
            out.summary("Last failures:")
        out.summary(f"  {line}")
    return 0
