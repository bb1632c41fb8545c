"""`leruli group audit`."""

from __future__ import annotations

import click

from leruli.commands._common import client_command
from leruli.commands._listing import Selection, print_pages, selecting
from leruli.commands.group._secrets import admin_settings
from leruli.terminal.output import Output
from leruli.terminal.tables import Column

_COLUMNS = (
    Column("id", "id", is_number=True),
    Column("at", "at", is_time=True),
    Column("actor", "actor"),
    Column("action", "action"),
    Column("subject", "subject"),
    Column("detail", "detail"),
)


@click.command("audit")
@click.option("--action", help="Only this action, such as user-created or job-purged.")
@client_command(interrupted="Nothing was changed.")
@selecting("happened", after=int)
def command(out: Output, selection: Selection, action: str | None) -> None:
    """List what was done to users, secrets and others' jobs, newest first. Needs an admin's secret.

    The entries are written by the service and cannot be changed.
    """
    settings = admin_settings()

    from leruli.service.group import GroupAdmin

    with GroupAdmin(settings, out.note) as group:
        pages = group.audit(selection.limit, selection.after, action=action, **selection.period)
        print_pages(out, "entries", _COLUMNS, pages)
