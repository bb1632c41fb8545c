"""The output of a command: results on standard output, everything else on standard error.

There are three modes: for people; --quiet (results and errors only, no remarks, no bars); --json
(one JSON document on standard output, also for an error).
"""

from __future__ import annotations

import contextlib
import json
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from leruli import settings
from leruli.redaction import redact
from leruli.terminal.brief import BriefColumn, print_brief
from leruli.terminal.progress import say
from leruli.terminal.tables import Column, print_table

if TYPE_CHECKING:
    from leruli.service.paging import Page

#: What --json prints: an object, or a list of them.
Document = Any


@dataclass
class Output:
    """Prints in the mode that the options of the command chose."""

    as_json: bool = False
    quiet: bool = False
    #: Whether standard output holds the beginning of the JSON document of a listing.
    _is_listing: bool = False
    #: The document that --json prints at the end of `merged`.
    _merged: dict[str, Any] | None = None

    @property
    def shows_progress(self) -> bool:
        """Whether to show a progress bar."""
        return not self.as_json and not self.quiet and sys.stderr.isatty()

    @property
    def remarks(self) -> Callable[[str], None] | None:
        """The function that prints remarks, None if the mode has none."""
        return None if self.as_json or self.quiet else self.note

    def result(self, text: str, document: Mapping[str, Any] | Sequence[Any]) -> None:
        """Print the result, as `text` or as a JSON `document`."""
        if self.as_json and self._merged is not None:
            self._merged.update(document)
        elif self.as_json:
            click.echo(redact(json.dumps(document, indent=2)))
        elif text:
            click.echo(printable(text))

    @contextlib.contextmanager
    def merged(self) -> Iterator[None]:
        """Make one JSON document of all results in the block."""
        self._merged = {}
        try:
            yield
            document = self._merged
        finally:
            self._merged = None
        if self.as_json:
            self.result("", document)

    def done(self, text: str, document: Mapping[str, Any]) -> None:
        """Print what was done. It is not a result, so --quiet omits it."""
        self.result("" if self.quiet else text, document)

    def summary(self, text: str) -> None:
        """Print the last line of a table on standard output, for `tail`."""
        if not self.as_json and not self.quiet:
            click.echo(printable(text))

    def secret(self, kind: str, secret: str, about: Mapping[str, Any], advice: str) -> None:
        """Print a secret that is the result, and what to do with it.

        Only here a secret is printed without redaction, on standard output.
        """
        if self.as_json:
            shown = json.loads(redact(json.dumps(about)))
            click.echo(json.dumps({**shown, kind: secret}, indent=2))
        else:
            click.echo(secret)
        self.note(advice)

    def table(
        self,
        name: str,
        columns: Sequence[Column],
        entries: Sequence[Mapping[str, Any]],
        more: Mapping[str, Any] | None = None,
        brief: Sequence[BriefColumn] | None = None,
    ) -> None:
        """Print entries as a table, or as a document with a list of that name, and `more`.

        On a terminal the table has the columns of `brief` if they are given.
        """
        if self.as_json:
            self.result("", {name: entries, **(more or {})})
        else:
            _print(columns, entries, brief, heading=not self.quiet)

    def listing(
        self,
        name: str,
        columns: Sequence[Column],
        pages: Iterable[Page],
        brief: Sequence[BriefColumn] | None = None,
    ) -> Any:
        """Print pages as they come; returns where the page after the last one begins, or None.

        On a terminal a table has the columns of `brief` if they are given. After an error or Ctrl-C
        the JSON document is still valid: see `error`.
        """
        after: Any = None
        for number, page in enumerate(pages):
            after = page.next
            if self.as_json:
                self._extend_listing(name, page.entries, is_first=number == 0)
            elif page.entries or number == 0:
                # On a terminal each page is a table with a heading of its own.
                heading = not self.quiet and (number == 0 or sys.stdout.isatty())
                _print(columns, page.entries, brief, heading=heading)
        if self._is_listing:
            self._is_listing = False
            click.echo(f'\n], "next": {redact(json.dumps(after))}}}')
        return after

    def note(self, text: str) -> None:
        """Print a remark for a person; scripts do not need it."""
        if not self.as_json and not self.quiet:
            say(printable(text))

    def warn(self, text: str) -> None:
        """Warn on standard error. Scripts may need it, so --json prints it too."""
        if not self.quiet:
            say(f"Warning: {printable(text)}")

    def complaint(self, text: str) -> None:
        """Print one failure among several; the result sums them up."""
        say(printable(text))

    def error(self, message: str, exit_code: int) -> None:
        """Print an error sentence; with --json also as a document, or as the end of a listing's."""
        click.echo(f"Error: {printable(message)}", err=True)
        if self.as_json:
            document = {"error": {"message": message, "exit_code": exit_code}}
            text = redact(json.dumps(document, indent=2))
            click.echo("\n], " + text.lstrip("{") if self._is_listing else text)

    def traceback(self, error: BaseException) -> None:
        """Print where an error came from, if LERULI_DEBUG asks for it."""
        if settings.debugging():
            error.__suppress_context__ = False
            lines = traceback.format_exception(type(error), error, error.__traceback__)
            click.echo(printable("".join(lines)), err=True)

    def _extend_listing(
        self, name: str, entries: Iterable[Mapping[str, Any]], *, is_first: bool
    ) -> None:
        if is_first:
            self._is_listing = True
            click.echo(f'{{"{name}": [', nl=False)
        for number, entry in enumerate(entries):
            comma = "" if is_first and number == 0 else ","
            click.echo(f"{comma}\n  {redact(json.dumps(entry))}", nl=False)


def _print(
    columns: Sequence[Column],
    entries: Sequence[Mapping[str, Any]],
    brief: Sequence[BriefColumn] | None,
    *,
    heading: bool,
) -> None:
    if brief is not None and sys.stdout.isatty():
        print_brief(brief, entries, printable)
    else:
        print_table(columns, entries, printable, heading=heading)


def printable(text: str) -> str:
    """Return `text` without secrets and without characters that control a terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in redact(text))
