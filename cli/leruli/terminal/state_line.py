"""One line on standard error that says how far a job is, until its output comes."""

from __future__ import annotations

import os
import sys
import time

import click

from leruli.terminal.output import Output, printable
from leruli.terminal.progress import clear_before_sentences

# Without a terminal: between two lines about the same state.
_SECONDS = 60.0


class StateLine:
    """Shows the state of a job.

    On a terminal one line is written again and again. Otherwise each change of the state is a line,
    and a new reason is one from time to time.

    Parameters
    ----------
    out
        The mode of the command. --json and --quiet show no line.
    is_live
        Whether to write the line again. Several processes on one terminal must not.
    """

    def __init__(self, out: Output, *, is_live: bool) -> None:
        self._out = out
        self._is_live = is_live
        self._is_shown = False
        self._last = ("", "")
        self._told = 0.0
        if is_live:
            clear_before_sentences(self.clear)

    def show(self, status: str, text: str) -> None:
        """Show a state and the text about it."""
        if self._out.remarks is None or (status, text) == self._last:
            return
        if self._is_live:
            self._last = (status, text)
            self._is_shown = True
            line = printable(text).replace("\n", " ")
            self._write(f"\r\x1b[2K{_fitting(line)}")
            return
        now = time.monotonic()
        if status == self._last[0] and now - self._told < _SECONDS:
            return
        self._last, self._told = (status, text), now
        self._out.note(text)

    def clear(self) -> None:
        """Take the line away, so that other text can come."""
        if self._is_shown:
            self._is_shown = False
            self._last = ("", "")
            self._write("\r\x1b[2K")

    def _write(self, text: str) -> None:
        click.echo(text, nl=False, err=True)
        sys.stderr.flush()


def _fitting(line: str) -> str:
    """Cut a line to the width of the terminal."""
    try:
        width = os.get_terminal_size(sys.stderr.fileno()).columns
    except (OSError, ValueError):
        return line
    from rich.cells import cell_len, set_cell_size

    if not width or cell_len(line) < width:
        return line
    return set_cell_size(line, width - 2).rstrip() + "…"
