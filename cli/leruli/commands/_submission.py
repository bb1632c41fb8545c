"""Shared by task-submit, task-resubmit and run: sending one folder, or many folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from leruli.commands._batches import tell_failures
from leruli.commands._leftovers import tell_leftovers
from leruli.commands._provenance import tell_provenance
from leruli.folder.job_folder import JOB_FILE
from leruli.jobs.submit import Prepared, taken_name
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
