"""`leruli task-submit`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from leruli import settings
from leruli.commands._common import HERE, verb
from leruli.errors import NotFoundError
from leruli.output import Output
from leruli.progress import progress
from leruli.submitting import (
    DEFAULT_CORES,
    DEFAULT_MEMORY_MB,
    DEFAULT_TIME_S,
    JobSpec,
    join_command,
    prepare,
)

if TYPE_CHECKING:
    from leruli.batch import BatchReport

_AT_LEAST_ONE = click.IntRange(min=1)

# Failures told one by one on the terminal; --json has them all.
_MOST_FAILURES = 20


class _Command(click.Command):
    """Explains what to do about an option that was meant for the job's command."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            raise click.UsageError(
                f"{error.format_message()} If it belongs to the job's command, put -- before it: "
                "leruli task-submit psi4 1.5 -- psi4 -n 4 input.dat",
                ctx,
            ) from error


@click.command("task-submit", cls=_Command)
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
    "--batch",
    metavar="PATTERN|FILE",
    help="Submit many folders: a pattern in quotes such as 'case-*/', or a file with one folder a "
    "line (- for standard input).",
)
@click.argument("code")
@click.argument("version")
@click.argument("words", metavar="COMMAND...", nargs=-1, required=True)
@verb(
    interrupted="Nothing is lost: run the same command again to go on where it stopped. No job is "
    "submitted twice."
)
def command(
    out: Output,
    cores: int,
    memory: int,
    minutes: int,
    batch: str | None,
    code: str,
    version: str,
    words: tuple[str, ...],
) -> int:
    """Submit the current folder to run COMMAND with the image CODE:VERSION.

    Prints the job id and leaves it in leruli.job. The words of COMMAND are joined with spaces and
    run by bash, so one quoted string can hold any shell syntax. If COMMAND has options of its own,
    put -- before it: leruli task-submit psi4 1.5 -- psi4 -n 4 input.dat
    """
    if batch is not None:
        _check_quotes(code, version)
    settings.require(settings.ALL)
    settings.service_settings(), settings.storage_settings()
    spec = JobSpec(code, version, join_command(words), cores, memory, minutes * 60)
    spec.check()
    if batch is None:
        _submit_here(out, spec)
        return 0
    return _submit_batch(out, spec, batch)


def _check_quotes(*image: str) -> None:
    """Refuse a pattern that the shell replaced by folders: they stand where the image should."""
    for word in image:
        if Path(word).is_dir():
            raise click.UsageError(
                f"{word!r} is a folder, not an image. Put the pattern in quotes, such as "
                "--batch 'case-*/', so that the shell leaves it alone."
            )


def _submit_here(out: Output, spec: JobSpec) -> None:
    prepared = prepare(HERE, spec.command)

    from leruli.api import Service
    from leruli.storage import Store
    from leruli.submitting import check_image, submit

    total = prepared.inventory.total_bytes
    with Service(settings.service_settings(), out.note) as service:
        store = Store(settings.storage_settings())
        check_image(store, service, spec)
        with progress("Uploading", total, visible=out.shows_progress) as advance:
            jobid, bucket = submit(store, service, prepared, spec, advance, _resumed(out))
    out.result(jobid, {"jobid": jobid, "bucket": bucket})


def _resumed(out: Output) -> Callable[[str], None]:
    return lambda bucket: out.note(
        f"Going on with an earlier submission that was interrupted (bucket {bucket})."
    )


def _submit_batch(out: Output, spec: JobSpec, batch: str) -> int:
    from leruli.batch import STAGERS, Case, find_folders, submit_batch

    folders = find_folders(batch)
    if not folders:
        raise NotFoundError(
            f"{batch!r} is neither a file with names of folders nor a pattern that matches any. "
            "Put a pattern in quotes, so that the shell leaves it alone."
        )

    from leruli.api import Service
    from leruli.storage import Store
    from leruli.submitting import check_image

    with Service(settings.service_settings(), out.note) as service:
        store = Store(settings.storage_settings(), connections=STAGERS)
        check_image(store, service, spec)
        with progress(
            "Submitting", len(folders), unit="folders", visible=out.shows_progress
        ) as advance:
            report = submit_batch(store, service, [Case(name, spec) for name in folders], advance)
    _tell(out, report)
    return 1 if report.failed else 0


def _tell(out: Output, report: BatchReport) -> None:
    count = len(report.submitted)
    rate = count / report.seconds if report.seconds > 0 else 0.0
    for name, why in list(report.failed.items())[:_MOST_FAILURES]:
        out.complaint(f"Not submitted: {name}: {why}")
    if len(report.failed) > _MOST_FAILURES:
        out.complaint(f"... and {len(report.failed) - _MOST_FAILURES} more; --json lists them all.")
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
