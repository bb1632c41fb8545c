"""`leruli group usage`."""

from __future__ import annotations

from typing import Any

import click

from leruli.commands._batch_argument import of_batch_option
from leruli.commands._common import client_command
from leruli.commands._listing import period
from leruli.commands.group._secrets import reader
from leruli.terminal.output import Output
from leruli.terminal.tables import Column

# Each key, and the columns that it adds.
_KEYS = {
    "user": (Column("user", "user"),),
    "code": (Column("code", "code"),),
    "month": (Column("month", "month"),),
    "batch": (Column("batch", "batchname"), Column("batch id", "batchid")),
}
_BY_DEFAULT = ("user", "code", "month")

_FIGURES = (
    Column("jobs", "jobs", is_number=True),
    Column("completed", "completed", is_number=True),
    Column("failed", "failed", is_number=True),
    Column("cancelled", "cancelled", is_number=True),
    Column("core hours", "corehours", is_number=True, decimals=2),
    # Last, because scripts select columns by number.
    Column("CPU hours", "cpuhours", is_number=True, decimals=2),
    Column("CPU %", "cpupercent", is_number=True, decimals=1),
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
    default=",".join(_BY_DEFAULT),
    metavar="KEY,...",
    help="Group the sums by any of user, code, month, batch (default: the first three).",
)
@of_batch_option("Only jobs of batches of this name, or whose id begins so.")
@period("ended")
@click.option("--csv", "as_csv", is_flag=True, help="Print a CSV table.")
@client_command(interrupted="Nothing was changed.")
def command(
    out: Output,
    by: tuple[str, ...],
    batch: str | None,
    since: str | None,
    until: str | None,
    as_csv: bool,
) -> None:
    """Print jobs and core-hours of your group by user, code and month, of jobs that have ended.

    Core-hours are the cores that jobs asked for, times the time that their attempts ran. CPU hours
    are what they used of them. "CPU %" is that part, where it was measured: what is missing to 100
    was asked for and stood idle.
    """
    if as_csv and out.as_json:
        raise click.UsageError("--csv and --json exclude each other.")
    with reader(out) as group:
        if as_csv:
            out.result("\n".join(group.usage_csv(by, since, until, batch).splitlines()), {})
            return
        rows = group.usage(by, since, until, batch)
    for row in rows:
        row["cpupercent"] = _percent(row.get("cpuhours"), row.get("measuredcorehours"))
    columns = [column for key in by for column in _KEYS[key]]
    out.table("rows", (*columns, *_FIGURES), rows)


def _percent(used: Any, measured: Any) -> float | None:
    """Return the part of measured core-hours that was used; None if nothing was measured."""
    if not isinstance(used, (int, float)) or not isinstance(measured, (int, float)):
        return None
    return round(100 * used / measured, 1) if measured > 0 else None
