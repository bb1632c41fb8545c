"""A progress bar on standard error."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def progress(
    title: str, total: int, *, unit: str = "bytes", visible: bool = True
) -> Iterator[Callable[[int], None]]:
    """Show a bar while the block runs; yields the function to call with each advance.

    `unit` is "bytes" or the plural of what is counted. The function may be called by several
    threads. Not `visible`: it does nothing, and rich is not even imported.
    """
    if not visible:
        yield lambda _: None
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
            return Text(f"{task.finished_speed or task.speed or 0:.0f} {unit}/s")

    columns: tuple[ProgressColumn, ...] = (MofNCompleteColumn(), RateColumn())
    if unit == "bytes":
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
        yield lambda done: bar.advance(task, done)
