"""What the verbs that list things share: options for a period, for pages, for states."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from leruli.moments import moment_utc
from leruli.tables import Column

_Body = TypeVar("_Body", bound=Callable[..., Any])


STATES = ("received", "submitted", "running", "completed", "failed", "cancelled")

#: What is shown of a job after whose it is.
JOB_COLUMNS = (
    Column("name", "name"),
    Column("code", "code"),
    Column("version", "version"),
    Column("cores", "cores", is_number=True),
    Column("memory MB", "memorymb", is_number=True),
    Column("state", "state"),
    Column("received", "receivedat", is_time=True),
    Column("running", "runningat", is_time=True),
    Column("ended", "endedat", is_time=True),
    Column("exit", "exitcode", is_number=True),
    Column("attempts", "attempts", is_number=True),
    Column("reason", "reason"),
)


def in_states(body: _Body) -> _Body:
    """Add --state."""
    return click.option(
        "--state",
        "states",
        type=click.Choice(STATES),
        multiple=True,
        help="Only jobs in this state; may be repeated.",
    )(body)


def _moment(value: str) -> str:
    try:
        return moment_utc(value)
    except ValueError:
        raise click.BadParameter(
            f"{value!r} is no moment. Write a date (2026-11-24), a time (2026-11-24T08:30), or an "
            "age in minutes, hours, days or weeks (90m, 12h, 7d, 2w)."
        ) from None


def period(what: str) -> Callable[[_Body], _Body]:
    """Add --since and --until, about the moment when a thing did `what`."""

    def decorate(body: _Body) -> _Body:
        since = click.option(
            "--since",
            type=_moment,
            metavar="MOMENT",
            help=f"Only what {what} then or later: 2026-11-24, 2026-11-24T08:30, 12h, 7d.",
        )
        until = click.option(
            "--until", type=_moment, metavar="MOMENT", help=f"Only what {what} before then."
        )
        return since(until(body))

    return decorate


def paging(after: type[int] | type[str], default: int = 100) -> Callable[[_Body], _Body]:
    """Add --limit, --all and --after, whose type is `after`."""

    def decorate(body: _Body) -> _Body:
        limit = click.option(
            "--limit",
            type=click.IntRange(min=1),
            default=default,
            show_default=True,
            help="Entries to print at most, the newest ones.",
        )
        everything = click.option("--all", "everything", is_flag=True, help="Print all entries.")
        start = click.option("--after", type=after, help="Go on after this entry.")
        return limit(everything(start(body)))

    return decorate
