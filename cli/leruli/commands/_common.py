"""Shared by all commands: --json and --quiet, questions, and error messages."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from leruli.errors import LeruliError, RefusedError
from leruli.jobs.references import job_of_folder, resolve
from leruli.terminal.output import Output

if TYPE_CHECKING:
    from leruli.service.queue_client import QueueClient

#: Commands work in the current folder, like those of the published client.
HERE = "."


def client_command(
    *, interrupted: str, error_code: int | None = None
) -> Callable[[Callable[..., int | None]], Callable[..., int]]:
    """Add --json and --quiet to a command, and map exceptions to sentences and exit codes.

    `interrupted` is a sentence that says what to do after Ctrl-C. `error_code` is the exit code of
    all errors, for a command whose other exit codes are those of a job.
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
                code = error_code or error.exit_code
                out.error(str(error), code)
                out.traceback(error)
                return code
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
                    error_code or 1,
                )
                out.traceback(error)
                return error_code or 1

        return command

    return decorate


def job_here(jobid: str | None, service: QueueClient) -> str:
    """Return the id of the named job (see `leruli.jobs.references`), or the current folder's.

    Raises NotFoundError, and RefusedError when the name fits several jobs.
    """
    return resolve(service, jobid) if jobid else job_of_folder(service, HERE)


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something that cannot be undone, unless `yes` is given.

    Raises RefusedError if the answer is no, click.UsageError without a terminal to ask on.
    """
    if yes:
        return
    if not is_answered():
        raise click.UsageError(
            "There is no terminal to ask on. To confirm this without a question, add --yes."
        )
    if not click.confirm(question, err=True):
        raise RefusedError("Nothing was done.")


def is_answered() -> bool:
    """Whether a person can answer: standard input and standard error are a terminal."""
    return sys.stdin.isatty() and sys.stderr.isatty()
