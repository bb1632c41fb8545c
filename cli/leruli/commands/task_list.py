"""`leruli task-list`."""

from __future__ import annotations

import click

from leruli import settings
from leruli.commands._common import client_command
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
@wide_option
@client_command(interrupted="Nothing was changed.")
@selecting("was received", after=str)
def command(out: Output, selection: Selection, states: tuple[str, ...], wide: bool) -> None:
    """List your own jobs, the newest first. `leruli group activity` lists those of the group.

    A terminal shows the last digits of the job id. Other commands accept them as the id.
    """
    service_settings = settings.service_settings()

    from leruli.service.queue_client import QueueClient

    with QueueClient(service_settings, out.note) as service:
        pages = service.jobs(
            selection.limit, selection.after, states=list(states) or None, **selection.period
        )
        print_pages(out, "jobs", _COLUMNS, pages, None if wide else _BRIEF)
