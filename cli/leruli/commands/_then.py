"""--then of task-wait and task-submit --wait: a command that runs when the waiting has ended."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from leruli.terminal.output import Output

_Body = TypeVar("_Body", bound=Callable[..., Any])


def then_option(body: _Body) -> _Body:
    """Add --then."""
    return click.option(
        "--then",
        metavar="COMMAND",
        help="When the waiting has ended, however it did, run COMMAND by the shell. It finds the "
        "outcome in LERULI_WAIT_OUTCOME.",
    )(body)


def run_then(out: Output, command: str, told: Mapping[str, str | int], code: int) -> int:
    """Run a command of the user by the shell; return the exit code of the waiting command.

    `told` goes into its environment, each name after LERULI_WAIT_. `code` is that of the waiting,
    and stays, unless it is 0 and the command failed: then it is 1.
    """
    environment = {f"LERULI_WAIT_{name}": str(value) for name, value in told.items()}
    sys.stdout.flush()
    done = subprocess.run(  # noqa: S602 - the user's own command, as the user wrote it
        command,
        shell=True,
        check=False,
        env={**os.environ, **environment},
        # With --json the document alone is on standard output.
        stdout=sys.stderr if out.as_json else None,
    )
    if done.returncode == 0:
        return code
    out.complaint(f"The command of --then ended with exit code {done.returncode}.")
    return code or 1
