"""Tables: drawn on a terminal, otherwise a line of tab-separated cells per entry."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import click

from leruli.times import parse_moment


@dataclass(frozen=True)
class Column:
    """One column."""

    title: str
    key: str  #: of the entry
    is_time: bool = False  #: shown in local time
    is_number: bool = False
    #: Decimals of a number, also away from a terminal.
    decimals: int = 0


def print_table(
    columns: Sequence[Column],
    entries: Iterable[Mapping[str, Any]],
    printable: Callable[[str], str],
    *,
    heading: bool,
) -> None:
    """Print a table on standard output; `printable` cleans every cell.

    Away from a terminal nothing is cut or wrapped, and times stay as they are (UTC).
    """
    if sys.stdout.isatty():
        _draw(columns, entries, printable)
        return
    if heading:
        click.echo("\t".join(column.title for column in columns))
    for entry in entries:
        cells = (_exact(column, entry.get(column.key)) for column in columns)
        click.echo("\t".join(printable(cell) for cell in cells))


def _draw(
    columns: Sequence[Column],
    entries: Iterable[Mapping[str, Any]],
    printable: Callable[[str], str],
) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        # Folded, not cut: an id without its end is useless.
        table.add_column(
            column.title, justify="right" if column.is_number else "left", overflow="fold"
        )
    for entry in entries:
        # Text, because square brackets in a reason are no mark-up.
        table.add_row(
            *(Text(printable(_for_people(column, entry.get(column.key)))) for column in columns)
        )
    Console(width=terminal_width()).print(table)


def terminal_width() -> int | None:
    """Return the width of the terminal in characters, None if it is unknown."""
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or None
    except (OSError, ValueError):
        return None


def plain(value: Any) -> str:
    """Return a value as one line."""
    if value is None:
        return ""
    if isinstance(value, list):
        return ", ".join(map(plain, value))
    if isinstance(value, float):
        return format(value, "g") if value.is_integer() else repr(value)
    return " ".join(str(value).split())


def _exact(column: Column, value: Any) -> str:
    if column.decimals and isinstance(value, (int, float)):
        return f"{value:.{column.decimals}f}"
    return plain(value)


def _for_people(column: Column, value: Any) -> str:
    if column.is_time and isinstance(value, str):
        try:
            moment: datetime = parse_moment(value)
        except ValueError:
            return value
        return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    if column.is_number and isinstance(value, (int, float)):
        return f"{value:,.{column.decimals}f}"
    return plain(value)
