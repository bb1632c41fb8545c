"""Shared by task-submit and run: --new."""

from __future__ import annotations

from typing import TYPE_CHECKING

from leruli.commands._common import HERE
from leruli.commands._leftovers import tell_leftovers
from leruli.folder.job_folder import JobFolder
from leruli.terminal.output import Output

if TYPE_CHECKING:
    from leruli.service.queue_client import QueueClient


def make_new(
    out: Output, service: QueueClient, folders: list[str], with_results: bool
) -> dict[str, str]:
    """Prepare copied and edited folders for a new job. Return the refused ones, and why."""
    from leruli.folder.provenance import provenances_of
    from leruli.jobs.resubmit import archive_previous, select_unsound

    selection = select_unsound(service, provenances_of(folders), alone=folders == [HERE])
    for name in selection.copies:
        job = JobFolder(name).job()
        if job is not None and name == HERE:
            out.note(f"Job {job}, which this folder named, is not changed.")
    archive_previous(selection, with_results=with_results)
    tell_leftovers(out, selection.leftovers, again=True, with_results=with_results)
    return selection.failed
