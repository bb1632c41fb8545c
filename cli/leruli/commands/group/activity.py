"""`leruli group activity`."""

from __future__ import annotations

import click

from leruli.commands._common import verb
from leruli.commands._listing import JOB_COLUMNS, in_states, paging, period
from leruli.commands.group._secrets import reader
from leruli.output import Output
from leruli.tables import Column

_COLUMNS = (Column("job", "jobid"), Column("user", "user"), *JOB_COLUMNS)


@click.command("activity")
@in_states
@click.option("--user", help="Only jobs of this user.")
@period("was received")
@paging(str)
@verb(interrupted="Nothing was changed.")
def command(
    out: Output,
    states: tuple[str, ...],
    user: str | None,
    since: str | None,
    until: str | None,
    limit: int,
    everything: bool,
    after: str | None,
) -> None:
    """List the jobs of your group, the newest first: who, what, how far, since when."""
    with reader(out) as group:
        pages = group.activity(
            None if everything else limit,
            after,
            states=list(states) or None,
            user=user,
            since=since,
            until=until,
        )
        more = out.listing("jobs", _COLUMNS, pages)
    if more is not None:
        out.note(f"There are more: --all prints all, --after {more} goes on from here.")
