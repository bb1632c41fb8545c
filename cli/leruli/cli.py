"""The command line client: `leruli COMMAND`. Each command is a file in `leruli.commands`."""

from __future__ import annotations

import contextlib
import os
import sys

import click

from leruli import settings
from leruli._version import __version__
from leruli.commands._lazy import LazyGroup
from leruli.terminal.output import Output

# The help line of each command. `leruli --help` imports none of them.
_HELP_LINES = {
    "run": "Run COMMAND with the image CODE:VERSION as a job, as if it ran here.",
    "task-submit": "Submit the current folder to run COMMAND with the image CODE:VERSION.",
    "task-resubmit": "Submit folders again whose job is over: a new job with its own bucket.",
    "task-status": "Print the state of a job: of JOBID, or of the current folder's.",
    "task-wait": "Wait until jobs are over: each JOBID, or the current folder's job.",
    "task-logs": "Print what a job wrote on standard output: JOBID, or the current folder's job.",
    "task-list": "List your own jobs, the newest first.",
    "task-report": "Print what jobs used beside what they asked for, and what to ask for next.",
    "task-get": "Fetch the results of a job into the current folder.",
    "task-cancel": "Cancel a job: JOBID, or the current folder's.",
    "task-purge": "Delete a job's input and output from the object storage, for good.",
    "task-bucket": "Print the bucket of a job: of JOBID, or of the current folder's.",
    "batch-list": "List your own batches, the newest first.",
    "batch-status": "Print how far a batch is: of BATCH, or the current folder's.",
    "batch-get": "Fetch the results of a batch into its folders.",
    "batch-cancel": "Cancel all jobs of a batch that are not over.",
    "publish-code": "Publish the image CODE:VERSION of this machine's Docker for your group.",
    "unpublish-code": "Delete a published image of your group, for good.",
    "list-codes": "List the images that your group can run, as code:version.",
    "group": "Manage your group: users, secrets, machines; see who computes what.",
}

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
  After waiting: 10 a job failed   11 a job was cancelled   12 --timeout has passed
  leruli run has the exit code of its COMMAND: see `leruli run --help`
"""


class _Group(LazyGroup):
    """The commands. Some have a second name, which the help does not list."""

    meant = {  # noqa: RUF012
        **{name.partition("-")[2]: name for name in _HELP_LINES if name.startswith("task-")},
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
    help_lines=_HELP_LINES,
    epilog=_EPILOG,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, message="leruli %(version)s")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Submit folders of input files to Leruli Queue and bring back the results.

    In a folder: `leruli task-submit psi4 1.3.2 psi4 input.dat`, then `leruli task-status`,
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
    """Run the client and return the exit code."""
    try:
        code = cli.main(arguments, prog_name="leruli", standalone_mode=False)
    except click.ClickException as error:
        # click quotes the arguments, and a secret may be among them. Output redacts it.
        usage = getattr(error, "ctx", None)
        if usage is not None:
            click.echo(usage.get_usage(), err=True)
        Output().error(error.format_message(), error.exit_code)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        Output().error("Interrupted.", 130)
        return 130
    except BrokenPipeError:
        # The reader of the output has closed it (`leruli list-codes | head -1`).
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code if isinstance(code, int) else 0
