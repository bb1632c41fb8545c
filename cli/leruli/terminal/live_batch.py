"""A batch that is watched: a live table on a terminal, otherwise a line for each change."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from leruli.service.states import STATES
from leruli.terminal.batch_report import failure_lines, headline, pace, title
from leruli.terminal.brief import state_style
from leruli.terminal.output import Output, printable
from leruli.terminal.tables import terminal_width
from leruli.wording import counted

if TYPE_CHECKING:
    from rich.console import Group

#: Shows the batch as it is now.
Show = Callable[[Mapping[str, Any]], None]

_BAR = 30


@contextlib.contextmanager
def live_batch(out: Output) -> Iterator[Show]:
    """Yield the function that shows the batch. With --json and --quiet it shows nothing.

    The last table stays on the terminal.
    """
    if out.as_json or out.quiet:
        yield lambda _: None
    elif not sys.stdout.isatty():
        yield _Lines(out)
    else:
        from rich.console import Console
        from rich.live import Live

        console = Console(width=terminal_width(), highlight=False)
        with Live(console=console, auto_refresh=False) as live:
            yield lambda batch: live.update(_table(batch), refresh=True)


class _Lines:
    """Prints the counts when they have changed."""

    def __init__(self, out: Output) -> None:
        self._out = out
        self._last: str | None = None

    def __call__(self, batch: Mapping[str, Any]) -> None:
        line = headline(batch)
        if line != self._last:
            self._last = line
            self._out.summary(line)
            # A program that reads the lines gets each of them at once.
            sys.stdout.flush()


def _table(batch: Mapping[str, Any]) -> Group:
    from rich.console import Group
    from rich.text import Text

    def line(text: str, style: str = "") -> Text:
        return Text(printable(text), style, no_wrap=True, overflow="ellipsis")

    counts, total = batch["counts"], max(batch["jobs"], 1)
    digits = len(str(total))
    lines = [line(f"{title(batch)}: {counted(batch['jobs'], 'job')}", "bold")]
    for state in STATES:
        count = counts[state]
        # A state with one job of a million is seen too.
        filled = min(_BAR, max(round(_BAR * count / total), 1)) if count else 0
        bar = Text(f"{state:<10}", no_wrap=True)
        bar.append("█" * filled, state_style(state))
        bar.append("░" * (_BAR - filled), "dim")
        bar.append(f" {count:>{digits}} {100 * count / total:4.0f} %")
        lines.append(bar)
    lines.append(line(pace(batch) or ""))
    lines.extend(line(text, state_style("failed")) for text in failure_lines(batch))
    return Group(*lines)
