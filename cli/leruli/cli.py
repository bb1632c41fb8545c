"""The command line client: `leruli VERB`. One file a verb, in `leruli.commands`."""

from __future__ import annotations

import contextlib
import os
import sys

import click

from leruli import settings
from leruli._version import __version__
from leruli.commands._lazy import LazyGroup
from leruli.output import Output

_VERBS = (
    "task-submit",
    "task-resubmit",
    "task-status",
    "task-list",
    "task-get",
    "task-cancel",
    "task-purge",
    "task-bucket",
    "publish-code",
    "unpublish-code",
    "list-codes",
    "group",
)

_EPILOG = """\b
Settings, from the environment:
  LERULI_BASEURL      the queue, https://
  LERULI_API_SECRET   your API secret
  LERULI_S3_SERVER    your group's object storage, http:// or https://
  LERULI_S3_ACCESS    its access key
  LERULI_S3_SECRET    its secret key

\b
Exit codes:
  0 done          1 refused or failed    2 wrong usage      3 a setting is missing or wrong
  4 not found     5 queue unreachable    6 storage trouble  130 interrupted
"""


class _Group(LazyGroup):
    """The verbs, with second names for some that help does not list."""

    meant = {  # noqa: RUF012
        **{verb.partition("-")[2]: verb for verb in _VERBS if verb.startswith("task-")},
        **{word: f"group {word}" for word in ("activity", "usage", "nodes", "users", "audit")},
        "help": "leruli --help",
        "ls": "task-list",
        "prune": "task-purge",
        "images": "list-codes",
    }
    second_names = {  # noqa: RUF012
        "task-prune": "task-purge",
        "task-publish-code": "publish-code",
        "task-list-codes": "list-codes",
    }

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return super().get_command(ctx, self.second_names.get(cmd_name, cmd_name))


@click.group(
    cls=_Group,
    package="leruli.commands",
    verbs=_VERBS,
    epilog=_EPILOG,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, message="leruli %(version)s")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Submit folders of input files to Leruli Queue and bring back the results.

    In a folder: `leruli task-submit psi4 1.5 psi4 input.dat`, then `leruli task-status`,
    `leruli task-get`, and in the end `leruli task-purge`.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
        absent = settings.missing()
        if absent:
            click.echo("\n" + settings.explain_missing(absent), err=True)
            ctx.exit(3)


def main() -> None:
    """Run the client and exit with its code."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run the client; returns the exit code."""
    try:
        code = cli.main(arguments, prog_name="leruli", standalone_mode=False)
    except click.ClickException as error:
        # Click quotes the arguments, among which a secret may have slipped.
        usage = getattr(error, "ctx", None)
        if usage is not None:
            click.echo(usage.get_usage(), err=True)
        Output().error(error.format_message(), error.exit_code)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        Output().error("Interrupted.", 130)
        return 130
    except BrokenPipeError:
        # Whoever read our output has gone (`leruli list-codes | head -1`). Nothing can be said.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code if isinstance(code, int) else 0
