"""Shared by task-submit and task-resubmit: the options, one folder, many folders."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from leruli import settings
from leruli.commands._batches import tell_failures
from leruli.commands._growing import Growing, growing
from leruli.commands._image_argument import named_image, whole_request
from leruli.commands._leftovers import tell_leftovers
from leruli.commands._provenance import tell_provenance
from leruli.folder.job_folder import JOB_FILE
from leruli.jobs.submit import (
    DEFAULT_CORES,
    DEFAULT_MEMORY_MB,
    DEFAULT_TIME_S,
    Prepared,
    join_command,
    taken_name,
)
from leruli.service.retry_rule import MOST_RETRIES
from leruli.terminal.output import Output
from leruli.terminal.progress import progress
from leruli.wording import counted

if TYPE_CHECKING:
    from leruli.folder.journal import Journal
    from leruli.jobs.submit_many import BatchReport, Case
    from leruli.service.queue_client import QueueClient
    from leruli.storage.store import Store

NOTHING_IS_LOST = (
    "Nothing is lost: run the same command again to continue. No job is submitted twice."
)

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


def send_prepared(
    out: Output,
    store: Store,
    service: QueueClient,
    prepared: Prepared,
    batchid: str | None = None,
) -> tuple[str, str]:
    """Submit one folder; return the job id and the bucket.

    With `batchid` the job makes a batch of its own.
    """
    from leruli.jobs.submit import submit

    total = prepared.inventory.total_bytes
    with progress("Uploading", total, visible=out.shows_progress) as advance:
        sent = submit(store, service, prepared, advance, out.note, batchid)
    tell_leftovers(out, {prepared.folder.directory: prepared.leftovers})
    return sent


def submit_prepared(
    out: Output,
    store: Store,
    service: QueueClient,
    prepared: Prepared,
    batchid: str | None = None,
) -> int:
    """Submit one folder, print the job id and return the exit code.

    With `batchid` the job makes a batch of its own. The exit code is 1 if an interrupted submission
    had submitted the job with other input.
    """
    jobid, bucket = send_prepared(out, store, service, prepared, batchid)
    out.result(jobid, {"jobid": jobid, "bucket": bucket})
    return tell_provenance(out, prepared.folder.directory)


def submit_folders(
    out: Output,
    store: Store,
    service: QueueClient,
    cases: Sequence[Case],
    journal: Journal,
    refused: Mapping[str, str],
    name: str | None = None,
    mail: str | None = None,
) -> int:
    """Submit many folders, print the outcome and return the exit code.

    `refused` has further folders, and why they are not submitted. `name` is that of the batch.
    `mail` is the address that was given for mail about it.
    """
    from leruli.folder.provenance import Provenance, provenances_of
    from leruli.jobs.mail import tell_complete
    from leruli.jobs.submit_many import BatchReport, submit_batch

    report = BatchReport(failed=dict(refused))
    provenances = provenances_of(case.directory for case in cases)
    before = sum(
        isinstance(one, Provenance) and one.is_sound and Path(name, JOB_FILE).exists()
        for name, one in provenances.items()
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
            submit_batch(store, service, cases, advance, journal, report, name, provenances)
    except KeyboardInterrupt:
        out.complaint(
            f"Submitted {len(report.submitted)} now, {len(report.skipped)} before; "
            f"{report.left + len(report.failed)} of {counted(report.total, 'folder')} left."
        )
        raise
    # Without the folders for which the same command is to be run again.
    if mail is not None and report.batch is not None and not report.passing:
        trouble = tell_complete(service, mail, report.batch[0])
        if trouble is not None:
            out.warn(trouble)
    _tell(out, report)
    return 1 if report.failed else 0


def check_batch_name(name: str, batch: str | None) -> None:
    """Raise click.UsageError for a name that no batch can have, or without --batch."""
    if batch is None:
        raise click.UsageError("--name goes with --batch.")
    if not name or taken_name(name) != name:
        raise click.UsageError(
            "The name of a batch may have 200 characters, no control characters and no secret."
        )


def _check_quotes(*image: str | None) -> None:
    """Refuse a pattern that the shell expanded: then folders are in the place of the image."""
    for word in image:
        if word is not None and Path(word).is_dir():
            raise click.UsageError(
                f"{word!r} is a folder, not an image. Put the pattern in quotes, such as "
                "--batch 'case-*/', so that the shell does not expand it."
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
        parts.append(f"{others - passing} failed: mend these folders first, see the errors")
    out.done(
        "; ".join(parts) + ".",
        {
            "submitted": report.submitted,
            "skipped": report.skipped,
            "failed": report.failed,
            "seconds": round(report.seconds, 3),
            "copies": report.copies,
            "edited": report.edited,
            "batch": report.batch and {"batchid": report.batch[0], "name": report.batch[1]},
        },
    )
