"""`leruli task-get`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from leruli import settings
from leruli.commands._batches import batch_option, refuse_with_batch
from leruli.commands._common import HERE, client_command, job_here
from leruli.commands._fetching import get_folders, tell_end, tell_exceptions
from leruli.commands._waiting import TIME_OVER, jobs_of_batch, timeout_option, wait_for
from leruli.errors import LeruliError, NotFoundError
from leruli.jobs.targets import Target, target_here, target_named, target_of_job
from leruli.terminal.log_tail import ERROR_LOG, last_lines
from leruli.terminal.output import Output
from leruli.terminal.progress import progress
from leruli.wording import counted

if TYPE_CHECKING:
    from leruli.jobs.fetch import Wanted
    from leruli.jobs.placing import Fetched
    from leruli.service.queue_client import JobState


@click.command("task-get")
@batch_option
@click.option("--again", is_flag=True, help="With --batch: also jobs that were fetched before.")
@click.option("--all", "everything", is_flag=True, help="Fetch the archive of the input too.")
@click.option(
    "--overwrite", is_flag=True, help="Replace local files, also those that were changed."
)
@click.option(
    "--with-input", is_flag=True, help="Fetch the submitted input too, beside changed files."
)
@click.option("--wait", is_flag=True, help="First wait until the job is over, as task-wait does.")
@timeout_option
@click.option("--job", metavar="JOBID", help="This job. An admin may name any job of the group.")
@click.argument("bucket", metavar="[JOBID|BUCKET]", required=False)
@client_command(
    interrupted="All files fetched so far are complete. Run `leruli task-get` again for the rest."
)
def command(
    out: Output,
    batch: str | None,
    again: bool,
    everything: bool,
    overwrite: bool,
    with_input: bool,
    wait: bool,
    timeout: float | None,
    job: str | None,
    bucket: str | None,
) -> int:
    """Fetch the results of a job into the current folder.

    Fetches the results of the current folder's job, of JOBID, or of BUCKET. A local file that
    changed since the submission is not replaced: the result is put beside it, as
    NAME.leruli-XXXXXXXX.

    --batch fetches the results of many folders, each into its own folder. It skips jobs that are
    not over, and jobs that were fetched before.
    """
    refuse_with_batch(batch, job=job, bucket=bucket)
    if again and batch is None:
        raise click.UsageError("--again goes with --batch.")

    from leruli.jobs.fetch import Wanted

    wanted = Wanted(everything, again, overwrite, with_input)
    if job is not None and bucket is not None:
        raise click.UsageError("Give --job or BUCKET, not both.")
    if timeout is not None and not wait:
        raise click.UsageError("--timeout goes with --wait.")

    def get() -> int:
        return _one(out, job, bucket, wanted) if batch is None else _many(out, batch, wanted)

    if not wait:
        return get()
    settings.require(settings.ALL)
    with out.merged():
        waited = _wait(out, batch, job or bucket, timeout)
        # After --timeout nothing is fetched: what there is so far is no result.
        code = 0 if waited == TIME_OVER else get()
    return code or waited


def _wait(out: Output, batch: str | None, job: str | None, timeout: float | None) -> int:
    from leruli.service.queue_client import QueueClient

    with QueueClient(settings.service_settings(), out.note) as service:
        if batch is None:
            jobs = {job or HERE: job_here(job, service)}
            return wait_for(out, service, jobs, timeout=timeout)
        jobs, problems = jobs_of_batch(service, batch)
        for name, why in problems.items():
            out.note(f"Not waited for: {name}: {why}")
        return wait_for(out, service, jobs, timeout=timeout)


def _one(out: Output, job: str | None, bucket: str | None, wanted: Wanted) -> int:
    storage_settings = settings.storage_settings()

    from leruli.folder.local_files import LocalFiles
    from leruli.folder.provenance import Provenance, provenance_of
    from leruli.jobs.fetch import fetch, select_results
    from leruli.jobs.fetch_input import fetch_input
    from leruli.storage.store import Store

    store = Store(storage_settings)
    if job is not None:
        target = target_of_job(job, "get", out.note)
    elif bucket is not None:
        target = target_named(bucket, store, out.note)
    else:
        provenance_of(HERE).check_own(HERE)
        target = target_here(HERE, "get", out.note)
    # Ask for the state first. At worst a job that ends meanwhile is called unfinished.
    state = _state(target.jobid)
    items = select_results(store, target.bucket, everything=wanted.everything)
    if not items and not wanted.with_input:
        raise NotFoundError(_nothing_there(state))
    _tell_state(out, state)
    total = sum(item.size for item in items)
    local = LocalFiles.of(HERE, target.bucket, target.jobid, overwrite=wanted.overwrite)
    with progress("Fetching", total, visible=out.shows_progress) as advance:
        fetched = fetch(
            store,
            target.bucket,
            items,
            HERE,
            advance,
            local=local,
            is_over=state is not None and state.is_final,
        )
        if wanted.with_input:
            fetched.input = fetch_input(store, local, {item.name for item in items}, advance)
    provenance = provenance_of(HERE) if target.is_here else Provenance()
    lines = _last_errors(fetched) if state is not None and state.status == "failed" else []
    if lines:
        out.complaint(f"The end of {ERROR_LOG}:\n" + "\n".join(f"    {line}" for line in lines))
    tell_exceptions(out, fetched)
    if provenance.edited:
        out.complaint(provenance.sentence(HERE))
    _tell_result(out, target, state, fetched, lines)
    return 1 if fetched.all_refused or fetched.differences() or provenance.edited else 0


def _tell_state(out: Output, state: JobState | None) -> None:
    if state is None:
        return
    if not state.is_final:
        out.note(f"The job is {state.status}: this is what there is so far. Fetch again later.")
    elif state.status == "completed":
        out.note("The job is completed.")
    else:
        tell_end(out, state)


def _last_errors(fetched: Fetched) -> list[str]:
    """Return the last lines of the job's joberr.txt."""
    name = fetched.beside.get(ERROR_LOG, ERROR_LOG)
    return last_lines(Path(HERE, name)) if name in fetched.files else []


def _tell_result(
    out: Output, target: Target, state: JobState | None, fetched: Fetched, lines: list[str]
) -> None:
    count = len(fetched.files) - len(fetched.unchanged)
    text = f"Fetched {counted(count, 'file')}, {counted(fetched.total_bytes, 'byte')}"
    if fetched.unchanged:
        text += f"; {len(fetched.unchanged)} here already"
    given = fetched.input
    if given is not None:
        text += f". Input: {counted(len(given.files), 'file')}, {len(given.unchanged)} here already"
    out.done(
        f"{text}.",
        {
            "bucket": target.bucket,
            "files": fetched.files,
            "bytes": fetched.total_bytes,
            "refused": fetched.refused,
            "status": state.status if state else None,
            "reason": state.reason if state else None,
            "joberr": lines,
            "unchanged": fetched.unchanged,
            "beside": fetched.beside,
            "input": given.files if given is not None else None,
        },
    )


def _many(out: Output, batch: str, wanted: Wanted) -> int:
    settings.require(settings.ALL)
    settings.service_settings(), settings.storage_settings()

    from leruli.folder.journal import Journal
    from leruli.folder.patterns import find_folders

    names = find_folders(batch)
    return get_folders(out, Journal.opened(batch), names, wanted)


def _state(jobid: str | None) -> JobState | None:
    """Return the state of the job, None on any error. Fetching does not need it."""
    if jobid is None or settings.missing(settings.SERVICE):
        return None

    from leruli.service.queue_client import QueueClient

    try:
        with QueueClient(settings.service_settings()) as service:
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
