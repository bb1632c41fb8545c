"""`leruli batch-cancel`."""

from __future__ import annotations

import click

from leruli import settings
from leruli.commands._batch_argument import batch_argument
from leruli.commands._common import HERE, client_command, confirm
from leruli.jobs.batches import short_batch_id
from leruli.terminal.output import Output
from leruli.wording import counted


@click.command("batch-cancel")
@click.option("--yes", is_flag=True, help="Do not ask.")
@batch_argument
@client_command(interrupted="`leruli batch-status` shows what was cancelled.")
def command(out: Output, yes: bool, batch: str | None) -> None:
    """Cancel all jobs of a batch that are not over, the running ones too. Asks first.

    BATCH is the id of a batch, four or more of its first digits, or its name. Without it, it is
    the batch that was submitted last in the current folder, or in the nearest folder above it.
    Jobs that are submitted to the batch later are not cancelled.
    """
    service_settings = settings.service_settings()

    from leruli.jobs.batches import resolve_batch
    from leruli.service.batches import BatchClient

    with BatchClient(service_settings, out.note) as service:
        batchid = resolve_batch(service, batch, HERE)
        name = batch or short_batch_id(batchid)
        confirm(f"All jobs of batch {name} that are not over will be cancelled. Continue?", yes=yes)
        cancelled = stopping = 0
        for more_cancelled, more_stopping in service.cancel(batchid):
            cancelled += more_cancelled
            stopping += more_stopping
    text = f"Cancelled {counted(cancelled, 'job')}"
    if stopping:
        text += f"; {stopping} running ones are being stopped"
    out.done(f"{text}.", {"batchid": batchid, "cancelled": cancelled, "stopping": stopping})
