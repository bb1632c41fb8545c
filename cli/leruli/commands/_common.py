"""What all verbs share: --json and --quiet, asking, and the way an error is told."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import click

from leruli.errors import LeruliError, RefusedError
from leruli.output import Output
from leruli.references import job_of_folder, resolve

if TYPE_CHECKING:
    from leruli.api import Service

#: Commands work in the current folder, as the published client's do.
HERE = "."


class Verb(Protocol):
    """The body of a command."""

    def __call__(self, out: Output, /, **options: Any) -> int | None:
        """Do it; returns the exit code, None for 0."""


def verb(*, interrupted: str) -> Callable[[Callable[..., int | None]], Callable[..., int]]:
    """Give a command --json and --quiet, and turn exceptions into sentences and exit codes.

    `interrupted` says what to do after Ctrl-C.
    """

    def decorate(body: Callable[..., int | None]) -> Callable[..., int]:
        @click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
        @click.option("--quiet", is_flag=True, help="Print results and errors only.")
        @functools.wraps(body)
        def command(as_json: bool, quiet: bool, **options: Any) -> int:
            out = Output(as_json, quiet)
            try:
                return body(out, **options) or 0
            except LeruliError as error:
                out.error(str(error), error.exit_code)
                out.traceback(error)
                return error.exit_code
            except KeyboardInterrupt as error:
                out.error(f"Interrupted. {interrupted}", 130)
                out.traceback(error)
                return 130
            except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
                raise
            except Exception as error:
                out.error(
                    f"Unexpected: {type(error).__name__}: {error}. This is a fault of the client; "
                    "run it again with LERULI_DEBUG=1 and report what it prints.",
                    1,
                )
                out.traceback(error)
                return 1

        return command

    return decorate


def job_here(jobid: str | None, service: Service) -> str:
    """Return the id of the job that was named (see `leruli.references`), or the current folder's.

    Raises NotFoundError, and RefusedError when the name fits several jobs.
    """
    return resolve(service, jobid) if jobid else job_of_folder(service, HERE)


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something that cannot be undone; `yes` says that it was asked before.

    Raises RefusedError when the answer is no, click.UsageError when nobody is there to answer.
    """
    if yes:
        return
    if not is_answered():
        raise click.UsageError("There is no terminal to ask on whether this is meant: add --yes.")
    if not click.confirm(question, err=True):
        raise RefusedError("Nothing was done.")


def is_answered() -> bool:
    """Whether a person is there to answer."""
    return sys.stdin.isatty() and sys.stderr.isatty()
