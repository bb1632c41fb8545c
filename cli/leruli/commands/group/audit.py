"""`leruli group audit`."""

from __future__ import annotations

import click

from leruli.commands._common import verb
from leruli.commands._listing import Selection, print_pages, selecting
from leruli.commands.group._secrets import admin_settings
from leruli.output import Output
from leruli.tables import Column

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
@verb(interrupted="Nothing was changed.")
@selecting("happened", after=int)
def command(out: Output, selection: Selection, action: str | None) -> None:
    """List what was done to users, secrets and others' jobs, newest first. Needs an admin's secret.

    The entries are written by the service and cannot be changed.
    """
    settings = admin_settings()

    from leruli.group import GroupAdmin

    with GroupAdmin(settings, out.note) as group:
        pages = group.audit(selection.limit, selection.after, action=action, **selection.period)
        print_pages(out, "entries", _COLUMNS, pages)
