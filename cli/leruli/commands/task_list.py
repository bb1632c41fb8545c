"""`leruli task-list`."""

from __future__ import annotations

from typing import Any

import click

from leruli import settings
from leruli.commands._batch_argument import of_batch_option
from leruli.commands._common import HERE, client_command
from leruli.commands._listing import (
    JOB_BRIEF,
    JOB_COLUMNS,
    Selection,
    in_states,
    print_pages,
    selecting,
    wide_option,
)
from leruli.terminal.brief import id_column
from leruli.terminal.output import Output
from leruli.terminal.tables import Column

_BRIEF = (id_column(), *JOB_BRIEF)
_COLUMNS = (Column("job", "jobid"), *JOB_COLUMNS)


@click.command("task-list")
@in_states
@of_batch_option("Only jobs of this batch: its id, four or more of its first digits, or its name.")
@wide_option
@client_command(interrupted="Nothing was changed.")
@selecting("was received", after=str)
def command(
    out: Output, selection: Selection, states: tuple[str, ...], batch: str | None, wide: bool
) -> None:
    """List your own jobs, the newest first. `leruli group activity` lists those of the group.

    A terminal shows the last digits of the job id. Other commands accept them as the id.
    """
    service_settings = settings.service_settings()

    from leruli.service.queue_client import QueueClient

    chosen: dict[str, Any] = {"states": list(states) or None, **selection.period}
    if batch is not None:
        from leruli.jobs.batches import resolve_batch
        from leruli.service.batches import BatchClient

        with BatchClient(service_settings, out.note) as batches:
            chosen["batchid"] = resolve_batch(batches, batch, HERE)
    with QueueClient(service_settings, out.note) as service:
        pages = service.jobs(selection.limit, selection.after, **chosen)
        print_pages(out, "jobs", _COLUMNS, pages, None if wide else _BRIEF)
