"""`leruli task-list`."""

from __future__ import annotations

import click

from leruli import settings
from leruli.brief import id_column
from leruli.commands._common import verb
from leruli.commands._listing import (
    JOB_BRIEF,
    JOB_COLUMNS,
    Selection,
    in_states,
    print_pages,
    selecting,
    wide_option,
)
from leruli.output import Output
from leruli.tables import Column

_BRIEF = (id_column(), *JOB_BRIEF)
_COLUMNS = (Column("job", "jobid"), *JOB_COLUMNS)


@click.command("task-list")
@in_states
@wide_option
@verb(interrupted="Nothing was changed.")
@selecting("was received", after=str)
def command(out: Output, selection: Selection, states: tuple[str, ...], wide: bool) -> None:
    """List your own jobs, the newest first. Those of the whole group: leruli group activity.

    A terminal shows the last digits of the job id, which other commands take in its place.
    """
    service_settings = settings.service_settings()

    from leruli.api import Service

    with Service(service_settings, out.note) as service:
        pages = service.jobs(
            selection.limit, selection.after, states=list(states) or None, **selection.period
        )
        print_pages(out, "jobs", _COLUMNS, pages, None if wide else _BRIEF)
