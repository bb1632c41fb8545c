"""What task-submit and task-resubmit share: the options, one folder, many folders."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from leruli import settings
from leruli.commands._batches import tell_failures
from leruli.jobfolder import JOB_FILE
from leruli.output import Output
from leruli.progress import progress
from leruli.submitting import (
    DEFAULT_CORES,
    DEFAULT_MEMORY_MB,
    DEFAULT_TIME_S,
    JobSpec,
    Prepared,
    join_command,
)

if TYPE_CHECKING:
    from leruli.api import Service
    from leruli.batch import BatchReport
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
                f"leruli {self.name} psi4 1.5 -- psi4 -n 4 input.dat",
                ctx,
            ) from error


def what_to_run(body: Callable[..., int]) -> Callable[..., int]:
    """Add what says what to run, with which limits and where; `body` gets a checked JobSpec."""

    @click.option(
        "--cores", type=_AT_LEAST_ONE, default=DEFAULT_CORES, show_default=True, help="CPU cores."
    )
    @click.option(
        "--memory",
        type=_AT_LEAST_ONE,
        default=DEFAULT_MEMORY_MB,
        show_default=True,
        help="Memory limit in MB.",
    )
    @click.option(
        "--time",
        "minutes",
        type=_AT_LEAST_ONE,
        default=DEFAULT_TIME_S // 60,
        show_default=True,
        help="Time limit in minutes.",
    )
    @click.option(
        "--disk",
        type=_AT_LEAST_ONE,
        help="Limit of disk in MB, input and output included.  [default: the service's]",
    )
    @click.option(
        "--priority",
        type=click.IntRange(-1000, 1000),
        default=0,
        show_default=True,
        help="Among your own waiting jobs the highest go first.",
    )
    @click.option(
        "--batch",
        metavar="PATTERN|FILE",
        help="Many folders: a pattern in quotes such as 'case-*/', or a file with one folder a "
        "line (- for standard input).",
    )
    @click.argument("code")
    @click.argument("version")
    @click.argument("words", metavar="COMMAND...", nargs=-1, required=True)
    @functools.wraps(body)
    def command(
        out: Output,
        cores: int,
        memory: int,
        minutes: int,
        disk: int | None,
        priority: int,
        batch: str | None,
        code: str,
        version: str,
        words: tuple[str, ...],
        **options: object,
    ) -> int:
        if batch is not None:
            _check_quotes(code, version)
        settings.require(settings.ALL)
        settings.service_settings(), settings.storage_settings()
        spec = JobSpec(
            code, version, join_command(words), cores, memory, minutes * 60, priority, disk
        )
        spec.check()
        return body(out, spec, batch, **options)

    return command


def submit_prepared(
    out: Output, store: Store, service: Service, spec: JobSpec, prepared: Prepared
) -> None:
    """Submit one folder and print the job id."""
    from leruli.submitting import submit

    total = prepared.inventory.total_bytes
    with progress("Uploading", total, visible=out.shows_progress) as advance:
        jobid, bucket = submit(store, service, prepared, spec, advance, out.note)
    out.result(jobid, {"jobid": jobid, "bucket": bucket})


def submit_folders(
    out: Output,
    store: Store,
    service: Service,
    spec: JobSpec,
    folders: Sequence[str],
    journal: Journal,
) -> int:
    """Submit many folders and print what became of them; returns the exit code."""
    from leruli.batch import BatchReport, Case, submit_batch

    report = BatchReport()
    before = sum(Path(name, JOB_FILE).exists() for name in folders)
    if before:
        out.note(f"Going on: {before} of {len(folders)} folders were submitted before.")
    try:
        with progress(
            "Submitting",
            len(folders),
            unit="folders",
            visible=out.shows_progress,
            notice=out.remarks,
        ) as advance:
            cases = [Case(name, spec) for name in folders]
            submit_batch(store, service, cases, advance, journal, report)
    except KeyboardInterrupt:
        out.complaint(
            f"Submitted {len(report.submitted)} now, {len(report.skipped)} before; "
            f"{report.left + len(report.failed)} of {report.total} folders are left."
        )
        raise
    _tell(out, report)
    return 1 if report.failed else 0


def _check_quotes(*image: str) -> None:
    """Refuse a pattern that the shell replaced by folders: they stand where the image should."""
    for word in image:
        if Path(word).is_dir():
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
    tell_failures(out, "Not submitted", report.failed)
    parts = [f"Submitted {count} in {report.seconds:.1f} s ({rate:.0f}/s)"]
    if report.skipped:
        parts.append(f"{len(report.skipped)} skipped: submitted before")
    if report.failed:
        parts.append(f"{len(report.failed)} failed: run the same command again for these")
    out.result(
        "; ".join(parts) + ".",
        {
            "submitted": report.submitted,
            "skipped": report.skipped,
            "failed": report.failed,
            "seconds": round(report.seconds, 3),
        },
    )
