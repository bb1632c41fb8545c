"""Shared by task-submit, task-resubmit and run: what they take on the command line."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from leruli import settings
from leruli.commands._growing import Growing, growing
from leruli.commands._image_argument import named_image, whole_request
from leruli.jobs.submit import DEFAULT_CORES, DEFAULT_MEMORY_MB, DEFAULT_TIME_S, join_command
from leruli.service.retry_rule import MOST_RETRIES
from leruli.terminal.output import Output

_Body = TypeVar("_Body", bound=Callable[..., Any])

_AT_LEAST_ONE = click.IntRange(min=1)


class RunCommand(click.Command):
    """A command whose error explains how to pass an option to the job's command."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            raise click.UsageError(
                f"{error.format_message()} If it belongs to the job's command, put -- before it: "
                f"leruli {self.name} --cores 4 psi4 1.3.2 -- psi4 -n 4 input.dat",
                ctx,
            ) from error


@dataclass(frozen=True)
class Wanted:
    """The job that the command line asks for."""

    #: The fields of JobSpec that were given.
    fields: Mapping[str, Any]
    batch: str | None
    new: bool  #: copied and edited folders get their own job
    with_results: bool  #: results of earlier jobs are sent too
    mail: str | None  #: where mail about the jobs goes


def what_to_run(
    *, again: bool, is_program: bool = False
) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Add the options and arguments for image, command, limits and folders; the body gets `Wanted`.

    With `again`, all of them are optional. The default is then the value of the folder's last job.
    With `is_program` the command works on the current folder only, and several words are a program
    and its arguments. Otherwise words are joined with spaces.
    """
    mail_option = click.option(
        "--mail",
        metavar="ADDRESS",
        help="Mail when all is over, and of many folders when the first job fails.",
    )
    batch_option = click.option(
        "--batch",
        metavar="PATTERN|FILE",
        help="Many folders: a pattern in quotes such as 'case-*/', or a file with one folder a "
        "line (- for standard input).",
    )

    def decorate(body: Callable[..., int]) -> Callable[..., int]:
        @functools.partial(_add_limits, again=again)
        @click.option(
            "--new",
            is_flag=True,
            help="A job of its own for a copied folder"
            + ("." if again or is_program else ", and for one edited after its job was submitted."),
        )
        @click.option(
            "--with-results",
            is_flag=True,
            help="Send results of earlier jobs too, for instance for a restart.",
        )
        @(_unchanged if is_program else batch_option)
        @(_unchanged if is_program else mail_option)
        @click.argument("code", required=not again)
        @click.argument("version", metavar="[VERSION]" if again else "VERSION", required=False)
        @click.argument("words", metavar="[COMMAND...]" if again else "COMMAND...", nargs=-1)
        @functools.wraps(body)
        def command(
            out: Output,
            code: str | None,
            version: str | None,
            words: tuple[str, ...],
            new: bool,
            with_results: bool,
            memory: Growing | None,
            minutes: Growing | None,
            share_container: bool | None,
            retry: int | None,
            retry_on: str | None,
            batch: str | None = None,
            mail: str | None = None,
            line: str | None = None,
            **limits: int | None,
        ) -> int:
            join = _one_program if is_program else join_command
            named = named_image if again else whole_request
            code, version, words = named(code, version, words)
            if batch is not None:
                _check_quotes(code, version)
            if code is not None and version is None:
                raise click.UsageError("Missing argument 'VERSION'.")
            if words and line is not None:
                raise click.UsageError("Give --command or COMMAND, not both.")
            settings.require(settings.ALL)
            settings.service_settings(), settings.storage_settings()
            fields: dict[str, Any] = {
                "code": code,
                "version": version,
                "command": join(words) if words else line,
                "memorymb": memory and memory.first,
                "most_memorymb": memory and memory.most,
                "timelimit": minutes and minutes.first * 60,
                "most_timelimit": minutes and minutes.most and minutes.most * 60,
                "retry": retry,
                "retry_on": retry_on,
                "share_container": share_container,
                **{name: limits.pop(name) for name in _LIMITS},
            }
            fields = {name: value for name, value in fields.items() if value is not None}
            return body(out, Wanted(fields, batch, new, with_results, mail), **limits)

        return command

    return decorate


def _one_program(words: Sequence[str]) -> str:
    """Return the line of bash that runs a program with exactly these arguments."""
    return words[0] if len(words) == 1 else shlex.join(words)


def _unchanged(body: _Body) -> _Body:
    return body


# For each limit: its option, its name in the body, the type, the help and the default.
_LIMIT_OPTIONS: tuple[
    tuple[str, str, click.IntRange | Callable[[str], Growing], str, object], ...
] = (
    ("--cores", "cores", _AT_LEAST_ONE, "CPU cores.", DEFAULT_CORES),
    ("--memory", "memory", growing, "Memory limit in MB.", DEFAULT_MEMORY_MB),
    ("--time", "minutes", growing, "Time limit in minutes.", DEFAULT_TIME_S // 60),
    (
        "--disk",
        "diskmb",
        _AT_LEAST_ONE,
        "Limit of disk in MB, input and output included.",
        "the service's",
    ),
    (
        "--shm-size",
        "shmmb",
        _AT_LEAST_ONE,
        "Size of /dev/shm in MB. Its content counts as memory.",
        64,
    ),
    (
        "--priority",
        "priority",
        click.IntRange(-1000, 1000),
        "Order among your own jobs: the highest goes first.",
        0,
    ),
)

# The limits that are fields of JobSpec without conversion.
_LIMITS = tuple(name for _, name, *_ in _LIMIT_OPTIONS if name not in ("memory", "minutes"))


def _add_limits(body: Callable[..., int], *, again: bool) -> Callable[..., int]:
    """Add the options for limits; `again` as in `what_to_run`."""
    if again:
        body = click.option(
            "--command", "line", metavar="LINE", help="Another command to run, in quotes."
        )(body)
    share = "--share-container/--no-share-container" if again else "--share-container"
    body = click.option(
        share,
        "share_container",
        is_flag=True,
        default=None,
        help="For many short jobs: run in the container of your job before it."
        + ("  [default: as before]" if again else ""),
    )(body)
    body = click.option(
        "--retry-on",
        metavar="END,...",
        help="Try again after these: out-of-memory, time-limit, exit=CODE, exit=any.  "
        f"[default: {'as before' if again else 'what MOST can mend'}]",
    )(body)
    body = click.option(
        "--retry",
        type=click.IntRange(0, MOST_RETRIES),
        help="Try the job again so often, with memory and time doubled up to MOST.  "
        f"[default: {'as before' if again else 0}]",
    )(body)
    # The option that is added last is the first one in --help.
    for option, name, kind, text, default in reversed(_LIMIT_OPTIONS):
        shown = "as before" if again else default
        metavar = "FIRST[:MOST]" if kind is growing else None
        body = click.option(
            option, name, type=kind, metavar=metavar, help=f"{text}  [default: {shown}]"
        )(body)
    return body


def _check_quotes(*image: str | None) -> None:
    """Refuse a pattern that the shell expanded: then folders are in the place of the image."""
    for word in image:
        if word is not None and Path(word).is_dir():
            raise click.UsageError(
                f"{word!r} is a folder, not an image. Put the pattern in quotes, such as "
                "--batch 'case-*/', so that the shell does not expand it."
            )
