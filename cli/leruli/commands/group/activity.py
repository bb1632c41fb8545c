"""`leruli group activity`."""

from __future__ import annotations

from typing import Any

import click

from leruli.commands._batch_argument import of_batch_option
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
from leruli.commands.group._secrets import reader
from leruli.terminal.brief import BriefColumn, Cut, id_column
from leruli.terminal.output import Output
from leruli.terminal.tables import Column

_BRIEF = (
    id_column(),
    BriefColumn("user", lambda job: job.get("user"), at_most=12, cut=Cut.END),
    *JOB_BRIEF,
)
_COLUMNS = (Column("job", "jobid"), Column("user", "user"), *JOB_COLUMNS)


@click.command("activity")
@in_states
@click.option("--user", help="Only jobs of this user.")
@of_batch_option("Only jobs of batches of this name, or whose id begins so.")
@wide_option
@client_command(interrupted="Nothing was changed.")
@selecting("was received", after=str)
def command(
    out: Output,
    selection: Selection,
    states: tuple[str, ...],
    user: str | None,
    batch: str | None,
    wide: bool,
) -> None:
    """List the jobs of your group, the newest first: who, what, how far, since when."""
    chosen: dict[str, Any] = {"states": list(states) or None, "user": user, **selection.period}
    if batch is not None:
        chosen["batch"] = batch
    with reader(out) as group:
        pages = group.activity(selection.limit, selection.after, **chosen)
        print_pages(out, "jobs", _COLUMNS, pages, None if wide else _BRIEF)
