"""`leruli task-list`."""

from __future__ import annotations

import click

from leruli import settings
from leruli.commands._common import verb
from leruli.commands._listing import JOB_COLUMNS, in_states, paging, period
from leruli.output import Output
from leruli.tables import Column

_COLUMNS = (Column("job", "jobid"), *JOB_COLUMNS)


@click.command("task-list")
@in_states
@period("was received")
@paging(str)
@verb(interrupted="Nothing was changed.")
def command(
    out: Output,
    states: tuple[str, ...],
    since: str | None,
    until: str | None,
    limit: int,
    everything: bool,
    after: str | None,
) -> None:
    """List your own jobs, the newest first. Those of the whole group: leruli group activity."""
    service_settings = settings.service_settings()

    from leruli.api import Service

    with Service(service_settings, out.note) as service:
        pages = service.jobs(
            None if everything else limit,
            after,
            states=list(states) or None,
            since=since,
            until=until,
        )
        more = out.listing("jobs", _COLUMNS, pages)
    if more is not None:
        out.note(f"There are more: --all prints all, --after {more} goes on from here.")
