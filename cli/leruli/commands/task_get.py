"""`leruli task-get`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from leruli import settings
from leruli.commands._batches import batch_option, refuse_with_batch, tell
from leruli.commands._common import HERE, bucket_here, verb
from leruli.errors import LeruliError, NotFoundError
from leruli.jobfolder import JobFolder
from leruli.output import Output
from leruli.progress import progress

if TYPE_CHECKING:
    from leruli.api import JobState


@click.command("task-get")
@batch_option
@click.option("--again", is_flag=True, help="With --batch: also what was fetched before.")
@click.option("--all", "everything", is_flag=True, help="Fetch the archive of the input too.")
@click.option("--job", metavar="JOBID", help="Of this job; an admin may name any of the group.")
@click.argument("bucket", required=False)
@verb(interrupted="What was fetched is complete. Run `leruli task-get` again for the rest.")
def command(
    out: Output,
    batch: str | None,
    again: bool,
    everything: bool,
    job: str | None,
    bucket: str | None,
) -> int:
    """Fetch the results of a job into the current folder.

    Of the current folder's job, of JOBID, or of BUCKET. Files of the same names are replaced. With
    --batch, those of many folders, each into its own, as far as their jobs are over and were not
    fetched before.
    """
    refuse_with_batch(batch, job=job, bucket=bucket)
    if again and batch is None:
        raise click.UsageError("--again goes with --batch.")
    if batch is not None:
        return _many(out, batch, everything=everything, again=again)
    if job is not None and bucket is not None:
        raise click.UsageError("Give --job or BUCKET, not both.")
    storage_settings = settings.storage_settings()
    if job is not None:
        jobid: str | None = job
        bucket = _bucket_of(out, job)
    else:
        # Only of the folder's own job is it known how far it is.
        jobid = JobFolder(HERE).job() if bucket is None else None
        bucket = bucket_here(bucket)

    from leruli.fetching import fetch, select_results
    from leruli.storage import Store

    store = Store(storage_settings)
    # Asked first: a job that ends in between is then at worst called unfinished.
    state = _state(jobid)
    items = select_results(store, bucket, everything=everything)
    if not items:
        raise NotFoundError(_nothing_there(state))
    total = sum(item.size for item in items)
    with progress("Fetching", total, visible=out.shows_progress) as advance:
        fetched = fetch(store, bucket, items, HERE, advance)
    for name, why in fetched.refused.items():
        out.complaint(f"{name} was not fetched: {why}")
    if state is not None and not state.is_final:
        out.note(f"The job is {state.status}: this is what there is so far. Fetch again later.")
    count = len(fetched.files)
    out.result(
        f"Fetched {count} {'file' if count == 1 else 'files'}, {fetched.total_bytes} bytes.",
        {
            "bucket": bucket,
            "files": fetched.files,
            "bytes": fetched.total_bytes,
            "refused": fetched.refused,
            "status": state.status if state else None,
        },
    )
    return 1 if fetched.refused else 0


def _many(out: Output, batch: str, *, everything: bool, again: bool) -> int:
    settings.require(settings.ALL)
    service_settings, storage_settings = settings.service_settings(), settings.storage_settings()

    from leruli.api import Service
    from leruli.folders import find_folders
    from leruli.journal import Journal
    from leruli.manyjobs import WORKERS, ask_for_folders, fetch_folders
    from leruli.recovery import recover
    from leruli.storage import Store

    names = find_folders(batch)
    with Journal.opened(batch) as journal:
        with Service(service_settings, out.note) as service:
            recover(journal, names, service.find_jobs)
            folders = list(ask_for_folders(names, journal, service.find_jobs, service.statuses))
        with progress(
            "Fetching", len(names), unit="folders", visible=out.shows_progress, notice=out.remarks
        ) as advance:
            tally = fetch_folders(
                Store(storage_settings, connections=WORKERS, notice=out.note),
                folders,
                journal,
                everything=everything,
                again=again,
                advance=advance,
            )
    return tell(
        out,
        "Fetched",
        tally,
        {"files": tally.files, "bytes": tally.total_bytes},
        f" ({tally.files} files, {tally.total_bytes} bytes)",
    )


def _bucket_of(out: Output, jobid: str) -> str:
    service_settings = settings.service_settings()

    from leruli.api import Service

    with Service(service_settings, out.note) as service:
        return service.bucket(jobid, "get")


def _state(jobid: str | None) -> JobState | None:
    """Return the state of the job if it can be had; fetching does not depend on it."""
    if jobid is None or settings.missing(settings.SERVICE):
        return None

    from leruli.api import Service

    try:
        with Service(settings.service_settings()) as service:
            return service.status(jobid)
    except LeruliError:
        return None


def _nothing_there(state: JobState | None) -> str:
    if state is None:
        return (
            "There are no results in the bucket (yet). See with `leruli task-status` how far the "
            "job is, and fetch again when it is completed."
        )
    if state.is_final:
        return f"There are no results in the bucket. The job is {state}."
    return (
        f"There are no results yet: the job is {state}. Fetch again when `leruli task-status` says "
        "completed."
    )
