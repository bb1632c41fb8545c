"""`leruli task-resubmit`."""

from __future__ import annotations

import click

from leruli import settings
from leruli.commands._batches import tell_failures, tell_skipped
from leruli.commands._common import HERE, verb
from leruli.commands._submission import (
    NOTHING_IS_LOST,
    RunCommand,
    submit_folders,
    submit_prepared,
    what_to_run,
)
from leruli.errors import RefusedError
from leruli.output import Output
from leruli.submitting import JobSpec, prepare


@click.command("task-resubmit", cls=RunCommand)
@click.option("--failed", "failed_only", is_flag=True, help="Only where the job has failed.")
@verb(interrupted=NOTHING_IS_LOST)
@what_to_run
def command(out: Output, spec: JobSpec, batch: str | None, failed_only: bool) -> int:
    """Submit folders again whose job is over: a new job, with a bucket of its own.

    Of the current folder, or of those that --batch names. The rest is as for task-submit. What the
    last job left stays: leruli.job, leruli.bucket and the logs are moved to leruli.history/JOBID,
    its bucket remains until it is purged there, and other results are sent along as input.
    """
    from leruli.api import Service
    from leruli.batch import STAGERS
    from leruli.folders import find_folders
    from leruli.journal import Journal
    from leruli.manyjobs import ask_for_folders
    from leruli.recovery import recover
    from leruli.resubmitting import Selection, make_room, select
    from leruli.storage import Store
    from leruli.submitting import check_image

    folders = find_folders(batch) if batch is not None else [HERE]
    with Service(settings.service_settings(), out.note) as service:
        store = Store(settings.storage_settings(), connections=STAGERS, notice=out.note)
        check_image(store, service, spec)

        def selected(journal: Journal | None) -> Selection:
            recover(journal, folders, service.find_jobs)
            asked = ask_for_folders(folders, journal, service.find_jobs, service.statuses)
            selection = select(asked, failed_only=failed_only)
            make_room(selection)
            return selection

        if batch is None:
            selection = selected(None)
            for why in (*selection.failed.values(), *selection.skipped.values()):
                raise RefusedError(f"The folder is not submitted again: {why.rstrip('.')}.")
            submit_prepared(out, store, service, spec, prepare(HERE, spec.command))
            return 0
        with Journal.opened(batch) as journal:
            # Only now: whoever had the journal may have given the folders other jobs.
            selection = selected(journal)
            tell_skipped(out, selection.skipped)
            tell_failures(out, "Not submitted again", selection.failed)
            code = submit_folders(out, store, service, spec, list(selection.chosen), journal)
            return 1 if selection.failed else code
