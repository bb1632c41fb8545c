"""Shows a person how the stack starts and stops: as one table, or as plain lines."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.table import Table


class Progress:
    """A table in a terminal, one line per step elsewhere, nothing when quiet."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._console = Console(stderr=True, quiet=quiet, highlight=False)
        self._rows: list[tuple[str, str, str, str]] = []
        self._live: Live | None = None

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show the table within the block."""
        self._rows = []
        if not self._console.is_terminal:
            yield
            return
        with Live(self._table(), console=self._console, refresh_per_second=8) as self._live:
            yield
        self._live = None

    @contextmanager
    def step(self, name: str, where: str, *, verb: str = "starting") -> Iterator[None]:
        """Show one step and its duration."""
        began = time.monotonic()
        self._rows.append((name, f"{verb} …", "", where))
        self._refresh()
        try:
            yield
        except BaseException:
            self._finish(name, "failed", began, where)
            raise
        self._finish(name, "ready" if verb == "starting" else "stopped", began, where)

    def note(self, sentence: str) -> None:
        """Print a sentence about the stack."""
        # Not wrapped: it may hold a path that people copy.
        self._console.print(f"leruli-queue: {sentence}", soft_wrap=True)

    def _finish(self, name: str, state: str, began: float, where: str) -> None:
        took = f"{time.monotonic() - began:.1f} s"
        self._rows[-1] = (name, state, took, where)
        if self._live is None:
            line = f"{name}: {state} after {took}{f', {where}' if where else ''}"
            self._console.print(line, soft_wrap=True)
        self._refresh()

    def _refresh(self) -> None:
        if self._live is not None:
            self._live.update(self._table())

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False)
        for heading in ("part", "state", "took", "where"):
            table.add_column(heading)
        for row in self._rows:
            table.add_row(*row)
        return table
