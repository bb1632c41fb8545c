"""What task-submit and task-resubmit share: the options, one folder, many folders."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from leruli import settings
from leruli.commands._batches import tell_failures
from leruli.commands._image_argument import named_image, whole_request
from leruli.commands._leftovers import tell_leftovers
from leruli.commands._standing import tell_standing
from leruli.counting import counted
from leruli.jobfolder import JOB_FILE
from leruli.output import Output
from leruli.progress import progress
from leruli.submitting import (
    DEFAULT_CORES,
    DEFAULT_MEMORY_MB,
    DEFAULT_TIME_S,
    Prepared,
    join_command,
)

if TYPE_CHECKING:
    from leruli.api import Service
    from leruli.batch import BatchReport, Case
    from leruli.journal import Journal
    from leruli.storage import Store

NOTHING_IS_LOST = (
    "Nothing is lost: run the same command again to go on where it stopped. No job is submitted "
    "twice."
)

_AT_LEAST_ONE = click.IntRange(min=1)


class RunCommand(click.Command):
    """Explains what to do about an option that was meant for the job's command."""

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
    """What the command line says of what to run, and how."""

    #: The fields of JobSpec that were given.
    fields: Mapping[str, Any]
    batch: str | None
    new: bool  #: copies, and folders that were edited, get a job of their own
    with_results: bool  #: results of earlier jobs are sent, too


def what_to_run(*, again: bool) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Add what says what to run, with which limits and where; the body gets what is `Wanted`.

    Said `again`, nothing has to be named: the rest is as in the last job of a folder.
    """

    def decorate(body: Callable[..., int]) -> Callable[..., int]:
        @functools.partial(_add_limits, again=again)
        @click.option(
            "--new",
            is_flag=True,
            help="A job of its own for a copied folder"
            + ("." if again else ", and for one edited after its job was submitted."),
        )
        @click.option(
            "--with-results",
            is_flag=True,
            help="Send results of earlier jobs too, as for a restart.",
        )
        @click.option(
            "--batch",
            metavar="PATTERN|FILE",
            help="Many folders: a pattern in quotes such as 'case-*/', or a file with one folder a "
            "line (- for standard input).",
        )
        @click.argument("code", required=not again)
        @click.argument("version", metavar="[VERSION]" if again else "VERSION", required=False)
        @click.argument("words", metavar="[COMMAND...]" if again else "COMMAND...", nargs=-1)
        @functools.wraps(body)
        def command(
            out: Output,
            code: str | None,
            version: str | None,
            words: tuple[str, ...],
            batch: str | None,
            new: bool,
            with_results: bool,
            minutes: int | None,
            line: str | None = None,
            **limits: int | None,
        ) -> int:
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
                "command": join_command(words) if words else line,
                "timelimit": None if minutes is None else minutes * 60,
                **{name: limits.pop(name) for name in _LIMITS},
            }
            fields = {name: value for name, value in fields.items() if value is not None}
            return body(out, Wanted(fields, batch, new, with_results), **limits)

        return command

    return decorate


# Of each limit: its option, its name in the body, the type, the help and the default.
_LIMIT_OPTIONS: tuple[tuple[str, str, click.IntRange, str, object], ...] = (
    ("--cores", "cores", _AT_LEAST_ONE, "CPU cores.", DEFAULT_CORES),
    ("--memory", "memorymb", _AT_LEAST_ONE, "Memory limit in MB.", DEFAULT_MEMORY_MB),
    ("--time", "minutes", _AT_LEAST_ONE, "Time limit in minutes.", DEFAULT_TIME_S // 60),
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
        "Size of /dev/shm in MB. What is in it counts as memory.",
        64,
    ),
    (
        "--priority",
        "priority",
        click.IntRange(-1000, 1000),
        "Among your own waiting jobs the highest go first.",
        0,
    ),
)

# Those that are fields of JobSpec as they are.
_LIMITS = tuple(name for _, name, *_ in _LIMIT_OPTIONS if name != "minutes")


def _add_limits(body: Callable[..., int], *, again: bool) -> Callable[..., int]:
    """Add the options for limits; `again` as in `what_to_run`."""
    if again:
        body = click.option(
            "--command", "line", metavar="LINE", help="What to run instead, in quotes."
        )(body)
    # The option that is added last is the first one in --help.
    for option, name, kind, text, default in reversed(_LIMIT_OPTIONS):
        shown = "as before" if again else default
        body = click.option(option, name, type=kind, help=f"{text}  [default: {shown}]")(body)
    return body


def submit_prepared(out: Output, store: Store, service: Service, prepared: Prepared) -> int:
    """Submit one folder and print the job id; returns the exit code.

    It is 1 if the job was accepted before, by a submission that was interrupted, with other input.
    """
    from leruli.submitting import submit

    total = prepared.inventory.total_bytes
    with progress("Uploading", total, visible=out.shows_progress) as advance:
        jobid, bucket = submit(store, service, prepared, advance, out.note)
    tell_leftovers(out, {prepared.folder.directory: prepared.leftovers})
    out.result(jobid, {"jobid": jobid, "bucket": bucket})
    return tell_standing(out, prepared.folder.directory)


def submit_folders(
    out: Output,
    store: Store,
    service: Service,
    cases: Sequence[Case],
    journal: Journal,
    refused: Mapping[str, str],
) -> int:
    """Submit many folders and print what became of them; returns the exit code.

    `refused` are other folders, and why they are not submitted.
    """
    from leruli.batch import BatchReport, submit_batch
    from leruli.standing import Standing, standings_of

    report = BatchReport(failed=dict(refused))
    standings = standings_of(case.directory for case in cases)
    before = sum(
        isinstance(one, Standing) and one.is_sound and Path(name, JOB_FILE).exists()
        for name, one in standings.items()
    )
    if before:
        out.note(f"Going on. Submitted before: {before} of {counted(len(cases), 'folder')}.")
    try:
        with progress(
            "Submitting",
            len(cases),
            unit="folder",
            visible=out.shows_progress,
            notice=out.remarks,
        ) as advance:
            submit_batch(store, service, cases, advance, journal, report, standings)
    except KeyboardInterrupt:
        out.complaint(
            f"Submitted {len(report.submitted)} now, {len(report.skipped)} before; "
            f"{report.left + len(report.failed)} of {counted(report.total, 'folder')} left."
        )
        raise
    _tell(out, report)
    return 1 if report.failed else 0


def _check_quotes(*image: str | None) -> None:
    """Refuse a pattern that the shell replaced by folders: they stand where the image should."""
    for word in image:
        if word is not None and Path(word).is_dir():
            raise click.UsageError(
                f"{word!r} is a folder, not an image. Put the pattern in quotes, such as "
                "--batch 'case-*/', so that the shell leaves it alone."
            )


def _tell(out: Output, report: BatchReport) -> None:
    count = len(report.submitted)
    rate = count / report.seconds if report.seconds > 0 else 0.0
    if report.accepted_before:
        out.note(
            f"{len(report.accepted_before)} of them had been accepted before already, by a "
            "submission that was interrupted: nothing was sent again."
        )
    tell_leftovers(out, report.leftovers)
    tell_failures(out, "Not submitted", report.failed)
    parts = [f"Submitted {count} in {report.seconds:.1f} s ({rate:.0f}/s)"]
    if report.skipped:
        parts.append(f"{len(report.skipped)} skipped: submitted before")
    if report.copies:
        parts.append(f"{counted(len(report.copies), 'copy', 'copies')} of other folders")
    if report.edited:
        parts.append(f"{len(report.edited)} edited after its submission")
    others = len(report.failed) - len(report.copies) - len(report.edited)
    passing = len(report.passing)
    if passing:
        parts.append(f"{passing} failed: run the same command again for these")
    if others > passing:
        parts.append(f"{others - passing} failed: mend these folders first, as said of each")
    out.done(
        "; ".join(parts) + ".",
        {
            "submitted": report.submitted,
            "skipped": report.skipped,
            "failed": report.failed,
            "seconds": round(report.seconds, 3),
            "copies": report.copies,
            "edited": report.edited,
        },
    )
