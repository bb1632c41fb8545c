"""Brief tables for a terminal: one line per entry, never wider than the terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from leruli.jobs.references import short_id
from leruli.terminal.tables import plain, terminal_width

_GAP = 2
# A column that may be cut keeps at least so many characters.
_NARROWEST = 8

# Colours of states of jobs and standings of nodes. Other words keep the terminal's colour.
_COLOURS = {
    "submitted": "cyan",
    "running": "blue",
    "completed": "green",
    "failed": "red",
    "cancelled": "yellow",
    "unknown": "red",
    "usable": "green",
    "troubled": "red",
    "drained": "yellow",
    "outdated": "red",
}


class Cut(Enum):
    """The place where a cell that is too long is cut."""

    NEVER = 0
    MIDDLE = 1  #: for names, whose ends differ
    END = 2


@dataclass(frozen=True)
class BriefColumn:
    """One column; `of` returns its cell for an entry."""

    title: str
    of: Callable[[Mapping[str, Any]], Any]
    is_number: bool = False  #: flush right
    cut: Cut = Cut.NEVER
    #: Its width if the terminal is too narrow for all; None: the rest of the width.
    at_most: int | None = 0
    is_state: bool = False  #: coloured by its word


def state_style(state: str) -> str:
    """Return the colour of a state, for rich."""
    return _COLOURS.get(state, "")


def id_column() -> BriefColumn:
    """Return the column of the short ids of jobs."""
    return BriefColumn("job", lambda one: short_id(one.get("jobid") or ""))


def state_column(key: str, title: str | None = None) -> BriefColumn:
    """Return the column of states that stand under `key`."""
    return BriefColumn(title or key, lambda one: one.get(key), is_state=True)


def print_brief(
    columns: Sequence[BriefColumn],
    entries: Sequence[Mapping[str, Any]],
    printable: Callable[[str], str],
) -> None:
    """Print the table on the terminal; `printable` cleans every cell."""
    from rich.cells import cell_len
    from rich.console import Console
    from rich.text import Text

    console = Console(width=terminal_width(), highlight=False)
    rows = [[printable(plain(column.of(one))) for column in columns] for one in entries]
    natural = [
        max(cell_len(cell) for cell in [column.title, *(row[number] for row in rows)])
        for number, column in enumerate(columns)
    ]
    widths = fitting(columns, natural, console.width)
    heading = [column.title for column in columns]
    for row in [heading, *rows]:
        # Only a terminal too narrow for the columns that are never cut needs the ellipsis.
        line = Text(no_wrap=True, overflow="ellipsis")
        for column, cell, width in zip(columns, row, widths):
            shown = _shortened(cell, width, column.cut)
            space = " " * (width - cell_len(shown))
            style = state_style(cell) if column.is_state else ""
            line.append(space if column.is_number else "")
            line.append(shown, "bold" if row is heading else style)
            line.append(" " * _GAP if column.is_number else space + " " * _GAP)
        line.rstrip()
        console.print(line)


def fitting(columns: Sequence[BriefColumn], natural: Sequence[int], width: int) -> list[int]:
    """Return the width of each column from the width of its longest cell."""
    room = width - _GAP * (len(columns) - 1)
    if sum(natural) <= room:
        return list(natural)
    widths = [
        min(wide, column.at_most or _NARROWEST) if column.cut is not Cut.NEVER else wide
        for column, wide in zip(columns, natural)
    ]
    # The remaining width goes to columns that may be cut, first to those without a bound.
    in_turn = sorted(range(len(columns)), key=lambda number: columns[number].at_most is not None)
    for number in in_turn:
        if columns[number].cut is not Cut.NEVER:
            left = room - sum(widths)
            least = min(natural[number], _NARROWEST)
            widths[number] = max(least, min(natural[number], widths[number] + left))
    return widths


def _shortened(cell: str, width: int, cut: Cut) -> str:
    """Return a cell in at most `width` columns of the terminal."""
    from rich.cells import cell_len, set_cell_size

    if cell_len(cell) <= width or cut is Cut.NEVER:
        return cell
    end = (width - 1) // 2 if cut is Cut.MIDDLE else 0
    # Cut from the end, because a character may take two columns.
    tail = set_cell_size(cell[::-1], end).rstrip()[::-1] if end else ""
    head = set_cell_size(cell, width - 1 - cell_len(tail)).rstrip()
    return f"{head}…{tail}"
