"""`leruli group usage`."""

from __future__ import annotations

import click

from leruli.commands._common import client_command
from leruli.commands._listing import period
from leruli.commands.group._secrets import reader
from leruli.terminal.output import Output
from leruli.terminal.tables import Column

_KEYS = ("user", "code", "month")

_FIGURES = (
    Column("jobs", "jobs", is_number=True),
    Column("completed", "completed", is_number=True),
    Column("failed", "failed", is_number=True),
    Column("cancelled", "cancelled", is_number=True),
    Column("core hours", "corehours", is_number=True, decimals=2),
)


def _keys(value: str) -> tuple[str, ...]:
    keys = [word.strip() for word in value.split(",")]
    for key in keys:
        if key not in _KEYS:
            raise click.BadParameter(f"{key!r} is not one of {', '.join(_KEYS)}.")
    return tuple(dict.fromkeys(keys))


@click.command("usage")
@click.option(
    "--by",
    type=_keys,
    default=",".join(_KEYS),
    metavar="KEY,...",
    help="Group the sums by any of user, code, month (default: all three).",
)
@period("ended")
@click.option("--csv", "as_csv", is_flag=True, help="Print a CSV table.")
@client_command(interrupted="Nothing was changed.")
def command(
    out: Output, by: tuple[str, ...], since: str | None, until: str | None, as_csv: bool
) -> None:
    """Print jobs and core-hours of your group by user, code and month, of jobs that have ended."""
    if as_csv and out.as_json:
        raise click.UsageError("--csv and --json exclude each other.")
    with reader(out) as group:
        if as_csv:
            out.result("\n".join(group.usage_csv(by, since, until).splitlines()), {})
            return
        rows = group.usage(by, since, until)
    columns = (*(Column(key, key) for key in by), *_FIGURES)
    out.table("rows", columns, rows)
