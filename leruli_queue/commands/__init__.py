"""The command line ``leruli-queue``, one file for each command.

Exit codes: 0 done, 1 failed, 2 wrong use, 3 settings or set-up are missing or wrong,
130 interrupted.
"""

from __future__ import annotations

import importlib
import io
import sys
from typing import NoReturn

import click

from leruli_queue import __version__
from leruli_queue.access.secrets import redact
from leruli_queue.errors import SetupError, UserReportableError

_COMMANDS = {
    "serve": "Serve the HTTP API.",
    "dispatch": "Move jobs between PostgreSQL and Nomad (one active, others stand by).",
    "migrate": "Bring the database's schema up to date.",
    "group-create": "Make a group with its first admin; prints the secrets once.",
    "group-list": "List the groups with their users, nodes and jobs.",
    "group-disable": "Refuse all secrets of a group; its running jobs may end.",
    "group-enable": "Undo group-disable.",
    "group-set-cluster": "Run a group's jobs in another Nomad cluster.",
    "group-create-admin": "Make an admin for a group whose admins have lost their secrets.",
    "secret-find": "Find secrets of Leruli Queue in files, for scanners.",
    "tls-init": "Make the certificates of a Nomad cluster, or renew them.",
    "up": "Run the whole system on this machine.",
    "down": "Stop what `up` started.",
}


class _Commands(click.Group):
    """Loads a command when it is used, so that `--help` does not load a web server."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"{__name__}.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="leruli-queue")
def _cli() -> None:
    """Leruli Queue: a job broker for research groups."""


def main() -> None:
    """Run the command line. Errors for people are sentences, not tracebacks."""
    try:
        sys.exit(_cli.main(prog_name="leruli-queue", standalone_mode=False))
    except SetupError as error:
        _fail(f"leruli-queue: {error}", 3)
    except UserReportableError as error:
        _fail(f"leruli-queue: {error.message}", 1)
    except click.ClickException as error:
        said = io.StringIO()
        error.show(said)
        _fail(said.getvalue().rstrip(), error.exit_code)
    except click.Abort as error:
        interrupted = isinstance(error.__cause__, KeyboardInterrupt)
        _fail("leruli-queue: interrupted", 130 if interrupted else 1)
    except Exception as error:
        why = _why_unusable(error)
        if why is None:
            raise
        _fail(f"leruli-queue: {why}", 1)


def _why_unusable(error: Exception) -> str | None:
    """Return the sentence if the database cannot be used now; None for a defect."""
    # Imported here, so that a command without a database does not wait for the library.
    import asyncpg

    from leruli_queue.store.pool import DATABASE_AWAY

    if not isinstance(error, DATABASE_AWAY):
        return None
    what = str(error) or type(error).__name__
    if isinstance(error, asyncpg.ReadOnlySQLTransactionError):
        return (
            f"PostgreSQL takes no changes ({what}). Nothing was done. Is it a copy that is not "
            "promoted yet? Try again when it takes changes, or check LERULI_QUEUE_DATABASE_URL."
        )
    if isinstance(error, OSError):
        return f"{what}. Is PostgreSQL running?"
    return f"PostgreSQL could not do it ({what}). Try again in a moment."


def _fail(text: str, code: int) -> NoReturn:
    # The text may quote the command line, which may hold a secret.
    click.echo(redact(text), err=True)
    sys.exit(code)
