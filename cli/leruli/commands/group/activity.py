"""`leruli group activity`."""

from __future__ import annotations

import click

from leruli.commands._common import verb
from leruli.commands._listing import JOB_COLUMNS, Selection, in_states, print_pages, selecting
from leruli.commands.group._secrets import reader
from leruli.output import Output
from leruli.tables import Column

_COLUMNS = (Column("job", "jobid"), Column("user", "user"), *JOB_COLUMNS)


@click.command("activity")
@in_states
@click.option("--user", help="Only jobs of this user.")
@verb(interrupted="Nothing was changed.")
@selecting("was received", after=str)
def command(out: Output, selection: Selection, states: tuple[str, ...], user: str | None) -> None:
    """List the jobs of your group, the newest first: who, what, how far, since when."""
    chosen = {"states": list(states) or None, "user": user, **selection.period}
    with reader(out) as group:
        pages = group.activity(selection.limit, selection.after, **chosen)
        print_pages(out, "jobs", _COLUMNS, pages)
