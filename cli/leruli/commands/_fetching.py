"""Shared by the commands that fetch results."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from leruli import settings
from leruli.commands._batches import tell, tell_failures
from leruli.terminal.output import Output
from leruli.terminal.progress import progress
from leruli.wording import counted

if TYPE_CHECKING:
    from leruli.folder.journal import Journal
    from leruli.jobs.fetch import Wanted
    from leruli.jobs.placing import Fetched
    from leruli.service.queue_client import JobState


def get_folders(
    out: Output, opened: AbstractContextManager[Journal], names: list[str], wanted: Wanted
) -> int:
    """Fetch the results of folders, print the outcome and return the exit code.

    `opened` opens the journal of their batch.
    """
    service_settings, storage_settings = settings.service_settings(), settings.storage_settings()

    from leruli.jobs.fetch_many import fetch_folders
    from leruli.jobs.many import WORKERS, ask_for_folders
    from leruli.jobs.recover import recover
    from leruli.service.queue_client import QueueClient
    from leruli.storage.store import Store

    with opened as journal, QueueClient(service_settings, out.note) as service:
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


def tell_exceptions(out: Output, fetched: Fetched) -> None:
    """Print each file that was not fetched or not replaced, and each replaced link."""
    for name, why in fetched.all_refused.items():
        out.complaint(f"{name} was not fetched: {why}")
    for difference in fetched.differences():
        out.complaint(difference)
    for name in fetched.links:
        out.note(f"{name} was a link. It is a file now, because the job changed its content.")


def tell_end(out: Output, state: JobState) -> None:
    """Print how a job ended that is not completed, and what its exit code mostly means."""
    from leruli.jobs.exit_codes import explain

    explanation = explain(state.status, state.reason)
    sentence = f"The job {'has failed' if state.status == 'failed' else 'was cancelled'}"
    sentence += f": {state.reason.rstrip('.')}." if state.reason else "."
    out.complaint(sentence if explanation is None else f"{sentence} {explanation}")
