"""A progress bar on standard error, and sentences above it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import click

from leruli.wording import counted

if TYPE_CHECKING:
    from rich.progress import Progress

# Seconds between two sentences about progress.
_TELL_EVERY = 10.0

# The bar that the terminal shows now.
_shown: list[Progress] = []
# Takes away the line that is written again and again (state_line.py), if there is one.
_clearing: list[Callable[[], None]] = []


def clear_before_sentences(clear: Callable[[], None]) -> None:
    """Have `clear` called before each sentence, so that it does not begin within a line."""
    _clearing[:] = [clear]


def say(text: str) -> None:
    """Print a sentence on standard error, above the bar if one is shown."""
    for clear in _clearing:
        clear()
    if not _shown:
        click.echo(text, err=True)
        return
    from rich.text import Text

    _shown[-1].console.print(Text(text), soft_wrap=True)


class _Teller:
    """Reports progress in sentences if there is no terminal."""

    def __init__(self, title: str, total: int, unit: str, notice: Callable[[str], None]) -> None:
        self._title, self._total, self._unit, self._notice = title, total, unit, notice
        self._done = 0
        self._begun = self._told = time.monotonic()

    def __call__(self, done: int) -> None:
        self._done += done
        now = time.monotonic()
        if now - self._told < _TELL_EVERY:
            return
        self._told = now
        rate = self._done / (now - self._begun)
        rest = (self._total - self._done) / rate if rate > 0 else 0.0
        self._notice(
            f"{self._title}: {self._done} of {counted(self._total, self._unit)}, {rate:.0f}/s, "
            f"about {rest:.0f} s to go."
        )


@contextlib.contextmanager
def progress(
    title: str,
    total: int,
    *,
    unit: str = "byte",
    visible: bool = True,
    notice: Callable[[str], None] | None = None,
) -> Iterator[Callable[[int], None]]:
    """Show a bar while the block runs; yields the function to call with each advance.

    `unit` is "byte" or another noun. Several threads may call the function. If not `visible`,
    `notice` (if given) takes a sentence every ten seconds, and rich is not imported.
    """
    if not visible:
        yield (lambda _: None) if notice is None else _Teller(title, total, unit, notice)
        return

    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.text import Text

    class RateColumn(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.finished_speed or task.speed or 0:.0f} {unit}s/s")

    columns: tuple[ProgressColumn, ...] = (MofNCompleteColumn(), RateColumn())
    if unit == "byte":
        columns = (DownloadColumn(binary_units=True), TransferSpeedColumn())
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        *columns,
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    with bar:
        task = bar.add_task(title, total=total or None)
        _shown.append(bar)
        try:
            yield lambda done: bar.advance(task, done)
        finally:
            _shown.remove(bar)
