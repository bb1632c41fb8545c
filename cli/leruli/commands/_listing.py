"""Shared by the commands that list things: options for a period, for pages, for states."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from leruli.service.states import STATES
from leruli.terminal.brief import BriefColumn, Cut, state_column
from leruli.terminal.output import Output
from leruli.terminal.tables import Column
from leruli.times import age, moment_utc
from leruli.wording import did_you_mean

if TYPE_CHECKING:
    from leruli.service.paging import Page

_Body = TypeVar("_Body", bound=Callable[..., Any])
_Listing = Callable[..., None]


# Names of other queues for the states.
_OTHER_WORDS = {
    "pending": "received",
    "queued": "received",
    "waiting": "received",
    "done": "completed",
    "finished": "completed",
    "aborted": "cancelled",
}

#: The columns of a job, after those of its id and its user.
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
    # Last, because scripts select columns by number.
    Column("disk MB", "diskmb", is_number=True),
    Column("batch", "batchname"),
)

#: The columns on a terminal, with one line per job.
JOB_BRIEF = (
    BriefColumn("name", lambda job: job.get("name"), at_most=24, cut=Cut.MIDDLE),
    state_column("state"),
    BriefColumn("since", lambda job: age(since_when(job)), is_number=True),
    BriefColumn("reason", lambda job: job.get("reason"), at_most=None, cut=Cut.END),
)


def since_when(job: Mapping[str, Any]) -> Any:
    """Return the time at which a job of a listing entered its state."""
    moments = {"received": "receivedat", "submitted": "submittedat", "running": "runningat"}
    return job.get(moments.get(str(job.get("state")), "endedat"))


def wide_option(body: _Body) -> _Body:
    """Add --wide."""
    return click.option(
        "--wide", is_flag=True, help="On a terminal: all columns, wrapped if they are too long."
    )(body)


class _StateChoice(click.Choice):  # type: ignore[type-arg]  # generic from click 8.2 on
    """A state. The error for any other word suggests a state."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value not in STATES:
            meant = _OTHER_WORDS.get(str(value).lower())
            hint = f" Did you mean {meant}?" if meant else did_you_mean(str(value), STATES)
            known = ", ".join(STATES)
            self.fail(f"{value!r} is not a state.{hint} The states are {known}.", param, ctx)
        return value


def in_states(body: _Body) -> _Body:
    """Add --state."""
    return click.option(
        "--state",
        "states",
        type=_StateChoice(STATES),
        multiple=True,
        help="Only jobs in this state; may be repeated.",
    )(body)


def _moment(value: str) -> str:
    try:
        return moment_utc(value)
    except ValueError:
        raise click.BadParameter(
            f"{value!r} is not a time. Write a date (2026-11-24), a time (2026-11-24T08:30), or an "
            "age in minutes, hours, days or weeks (90m, 12h, 7d, 2w)."
        ) from None


def period(what: str) -> Callable[[_Body], _Body]:
    """Add --since and --until. `what` says which time counts, such as "was received"."""

    def decorate(body: _Body) -> _Body:
        since = click.option(
            "--since",
            type=_moment,
            metavar="MOMENT",
            help=f"Only entries that {what} then or later: 2026-11-24, 2026-11-24T08:30, 12h, 7d.",
        )
        until = click.option(
            "--until", type=_moment, metavar="MOMENT", help=f"Only entries that {what} before then."
        )
        return since(until(body))

    return decorate


@dataclass(frozen=True)
class Selection:
    """Which entries of a listing to print: how many, after which entry, of which period."""

    limit: int | None  #: None for all
    after: Any
    period: dict[str, str | None]  #: since and until, in the form of the service


def selecting(what: str, after: type[int] | type[str]) -> Callable[[_Listing], _Listing]:
    """Add --since, --until, --limit, --all and --after; the body gets a Selection.

    `what` is as for `period`. `after` is the type of the ids of the entries.
    """

    def decorate(body: _Listing) -> _Listing:
        @period(what)
        @click.option(
            "--limit",
            type=click.IntRange(min=1),
            default=100,
            show_default=True,
            help="Entries to print at most, the newest ones.",
        )
        @click.option("--all", "everything", is_flag=True, help="Print all entries.")
        @click.option("--after", type=after, help="Continue after this entry.")
        @functools.wraps(body)
        def command(
            out: Output,
            since: str | None,
            until: str | None,
            limit: int,
            everything: bool,
            after: Any,
            **options: Any,
        ) -> None:
            wanted = Selection(
                None if everything else limit, after, {"since": since, "until": until}
            )
            body(out, selection=wanted, **options)

        return command

    return decorate


def print_pages(
    out: Output,
    name: str,
    columns: Sequence[Column],
    pages: Iterable[Page],
    brief: Sequence[BriefColumn] | None = None,
) -> None:
    """Print a listing page by page, and how to continue if there is more."""
    more = out.listing(name, columns, pages, brief)
    if more is not None:
        out.note(f"There are more: --all prints all, --after {more} continues from here.")
