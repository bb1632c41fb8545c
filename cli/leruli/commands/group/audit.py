"""`leruli group audit`."""

from __future__ import annotations

import click

from leruli.commands._common import verb
from leruli.commands._listing import paging, period
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
@period("happened")
@paging(int)
@verb(interrupted="Nothing was changed.")
def command(
    out: Output,
    action: str | None,
    since: str | None,
    until: str | None,
    limit: int,
    everything: bool,
    after: int | None,
) -> None:
    """List what was done to users, secrets and others' jobs, newest first. Needs an admin's secret.

    The entries are written by the service and cannot be changed.
    """
    settings = admin_settings()

    from leruli.group import GroupAdmin

    with GroupAdmin(settings, out.note) as group:
        pages = group.audit(
            None if everything else limit, after, action=action, since=since, until=until
        )
        more = out.listing("entries", _COLUMNS, pages)
    if more is not None:
        out.note(f"There are more: --all prints all, --after {more} goes on from here.")
