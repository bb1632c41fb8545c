"""What a command prints: results on standard output, everything else on standard error.

Three manners: for people; --quiet (results and errors only, no remarks, no bars); --json (one JSON
document on standard output, an error being one too).
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click

from leruli import settings
from leruli.redaction import redact

#: What --json prints: an object, or a list of them.
Document = Any


@dataclass(frozen=True)
class Output:
    """How to print, chosen by the options of the command."""

    as_json: bool = False
    quiet: bool = False

    @property
    def shows_progress(self) -> bool:
        """Whether a progress bar is welcome."""
        return not self.as_json and not self.quiet and sys.stderr.isatty()

    def result(self, text: str, document: Mapping[str, Any] | Sequence[Any]) -> None:
        """Print what was asked for, as `text` or as a JSON `document`."""
        if self.as_json:
            click.echo(redact(json.dumps(document, indent=2)))
        elif text:
            click.echo(printable(text))

    def note(self, text: str) -> None:
        """Print a remark that a person may want and a script does not."""
        if not self.as_json and not self.quiet:
            click.echo(printable(text), err=True)

    def complaint(self, text: str) -> None:
        """Tell of one failure among several; the result sums them up."""
        click.echo(printable(text), err=True)

    def error(self, message: str, exit_code: int) -> None:
        """Print an error sentence; with --json also as a document."""
        click.echo(f"Error: {printable(message)}", err=True)
        if self.as_json:
            document = {"error": {"message": message, "exit_code": exit_code}}
            click.echo(redact(json.dumps(document, indent=2)))

    def traceback(self, error: BaseException) -> None:
        """Print where an error came from, if LERULI_DEBUG asks for it."""
        if settings.debugging():
            error.__suppress_context__ = False
            lines = traceback.format_exception(type(error), error, error.__traceback__)
            click.echo(printable("".join(lines)), err=True)


def printable(text: str) -> str:
    """`text` without secrets, and without characters that would upset or fool a terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in redact(text))
