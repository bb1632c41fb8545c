"""Brief tables for a person at a terminal: one line an entry, never wider than the terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from leruli.references import short_id
from leruli.tables import plain, terminal_width

_GAP = 2
# A column that is cut keeps so many characters, however narrow the terminal is.
_NARROWEST = 8

# Of jobs and of machines. What stands in no list has the colour of the terminal.
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
    """Where a cell that is too long is cut."""

    NEVER = 0
    MIDDLE = 1  #: names, of which the ends differ
    END = 2


@dataclass(frozen=True)
class BriefColumn:
    """One column; `of` is what it shows of an entry."""

    title: str
    of: Callable[[Mapping[str, Any]], Any]
    is_number: bool = False  #: flush right
    cut: Cut = Cut.NEVER
    #: Characters that it keeps while there is too little room for all; None: what the others leave.
    at_most: int | None = 0
    is_state: bool = False  #: in a colour of its own


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
    """Print the table on the terminal; `printable` is what every cell goes through."""
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
        # The last resort of a terminal that is too narrow for what is never cut.
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
    """Return how wide each column is in a terminal, from how wide its longest cell is."""
    room = width - _GAP * (len(columns) - 1)
    if sum(natural) <= room:
        return list(natural)
    widths = [
        min(wide, column.at_most or _NARROWEST) if column.cut is not Cut.NEVER else wide
        for column, wide in zip(columns, natural)
    ]
    # What is left goes to the columns that others left little, those without a bound first.
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
    # From behind, as a character may take two columns.
    tail = set_cell_size(cell[::-1], end).rstrip()[::-1] if end else ""
    head = set_cell_size(cell, width - 1 - cell_len(tail)).rstrip()
    return f"{head}…{tail}"
