"""`leruli task-get`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from leruli import settings
from leruli.commands._batches import batch_option, refuse_with_batch, tell, tell_failures
from leruli.commands._common import HERE, verb
from leruli.counting import counted
from leruli.errors import LeruliError, NotFoundError
from leruli.log_tail import ERROR_LOG, last_lines
from leruli.output import Output
from leruli.progress import progress
from leruli.targets import Target, target_here, target_named, target_of_job

if TYPE_CHECKING:
    from leruli.api import JobState
    from leruli.fetching import Fetched, Wanted


@click.command("task-get")
@batch_option
@click.option("--again", is_flag=True, help="With --batch: also what was fetched before.")
@click.option("--all", "everything", is_flag=True, help="Fetch the archive of the input too.")
@click.option(
    "--overwrite", is_flag=True, help="Replace local files, also those that were changed."
)
@click.option(
    "--with-input", is_flag=True, help="Fetch the submitted input too, beside what was changed."
)
@click.option("--job", metavar="JOBID", help="Of this job; an admin may name any of the group.")
@click.argument("bucket", metavar="[JOBID|BUCKET]", required=False)
@verb(interrupted="What was fetched is complete. Run `leruli task-get` again for the rest.")
def command(
    out: Output,
    batch: str | None,
    again: bool,
    everything: bool,
    overwrite: bool,
    with_input: bool,
    job: str | None,
    bucket: str | None,
) -> int:
    """Fetch the results of a job into the current folder.

    Of the current folder's job, of JOBID, or of BUCKET. A local file that changed since the
    submission stays: the result is put beside it, as NAME.leruli-XXXXXXXX. With --batch, the
    results of many folders, each into its own, as far as their jobs are over and were not fetched
    before.
    """
    refuse_with_batch(batch, job=job, bucket=bucket)
    if again and batch is None:
        raise click.UsageError("--again goes with --batch.")

    from leruli.fetching import Wanted

    wanted = Wanted(everything, again, overwrite, with_input)
    if batch is not None:
        return _many(out, batch, wanted)
    if job is not None and bucket is not None:
        raise click.UsageError("Give --job or BUCKET, not both.")
    return _one(out, job, bucket, wanted)


def _one(out: Output, job: str | None, bucket: str | None, wanted: Wanted) -> int:
    storage_settings = settings.storage_settings()

    from leruli.fetching import bring_input, fetch, select_results
    from leruli.local_files import LocalFiles
    from leruli.standing import Standing, standing_of
    from leruli.storage import Store

    store = Store(storage_settings)
    if job is not None:
        target = target_of_job(job, "get", out.note)
    elif bucket is not None:
        target = target_named(bucket, store, out.note)
    else:
        standing_of(HERE).check_own(HERE)
        target = target_here(HERE, "get", out.note)
    # Asked first: a job that ends in between is then at worst called unfinished.
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
            fetched.input = bring_input(store, local, items, advance)
    standing = standing_of(HERE) if target.is_here else Standing()
    lines = _last_errors(fetched) if state is not None and state.status == "failed" else []
    if lines:
        out.complaint(f"The end of {ERROR_LOG}:\n" + "\n".join(f"    {line}" for line in lines))
    _tell_exceptions(out, fetched)
    if standing.edited:
        out.complaint(standing.sentence(HERE))
    _tell_result(out, target, state, fetched, lines)
    return 1 if fetched.all_refused or fetched.differences() or standing.edited else 0


def _tell_state(out: Output, state: JobState | None) -> None:
    if state is None:
        return
    if not state.is_final:
        out.note(f"The job is {state.status}: this is what there is so far. Fetch again later.")
    elif state.status == "completed":
        out.note("The job is completed.")
    else:
        from leruli.exit_codes import explain

        explanation = explain(state.status, state.reason)
        told = f"The job {'has failed' if state.status == 'failed' else 'was cancelled'}"
        told += f": {state.reason.rstrip('.')}." if state.reason else "."
        out.complaint(told if explanation is None else f"{told} {explanation}")


def _last_errors(fetched: Fetched) -> list[str]:
    """Return the last lines of the job's joberr.txt."""
    name = fetched.beside.get(ERROR_LOG, ERROR_LOG)
    return last_lines(Path(HERE, name)) if name in fetched.files else []


def _tell_exceptions(out: Output, fetched: Fetched) -> None:
    """Name every file that is not what a user expects, and say why."""
    for name, why in fetched.all_refused.items():
        out.complaint(f"{name} was not fetched: {why}")
    for sentence in fetched.differences():
        out.complaint(sentence)
    for name in fetched.links:
        out.note(f"{name} was a link. It is a file now, as the job changed its content.")


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
    service_settings, storage_settings = settings.service_settings(), settings.storage_settings()

    from leruli.api import Service
    from leruli.folders import find_folders
    from leruli.journal import Journal
    from leruli.manyjobs import WORKERS, ask_for_folders, fetch_folders
    from leruli.recovery import recover
    from leruli.storage import Store

    names = find_folders(batch)
    with Journal.opened(batch) as journal, Service(service_settings, out.note) as service:
        recover(journal, names, service.find_jobs)
        folders = list(ask_for_folders(names, journal, service.find_jobs, service.statuses))
        with progress(
            "Fetching", len(names), unit="folder", visible=out.shows_progress, notice=out.remarks
        ) as advance:
            tally = fetch_folders(
                Store(storage_settings, connections=WORKERS, notice=out.note),
                folders,
                journal,
                service.bucket,
                wanted,
                advance,
            )
    detail = f" ({counted(tally.files, 'file')}, {counted(tally.total_bytes, 'byte')})"
    if tally.differing:
        tell_failures(out, "To be looked at", tally.differing)
        detail += f"; {len(tally.differing)} to be looked at"
    more = {
        "files": tally.files,
        "bytes": tally.total_bytes,
        "states": tally.states,
        "differing": tally.differing,
    }
    code = tell(out, "Fetched", tally, more, detail, tally.states)
    return 1 if tally.differing else code


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
