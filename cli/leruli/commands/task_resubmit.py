"""`leruli task-resubmit`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from leruli import settings
from leruli.commands._batches import tell_skipped
from leruli.commands._common import HERE, verb
from leruli.commands._leftovers import tell_leftovers
from leruli.commands._submission import (
    NOTHING_IS_LOST,
    RunCommand,
    Wanted,
    submit_folders,
    submit_prepared,
    what_to_run,
)
from leruli.errors import RefusedError
from leruli.output import Output
from leruli.submitting import JobSpec, prepare

if TYPE_CHECKING:
    from leruli.journal import Journal
    from leruli.resubmitting import Selection


@click.command("task-resubmit", cls=RunCommand)
@click.option("--failed", "failed_only", is_flag=True, help="Only where the job has failed.")
@click.option("--strict", is_flag=True, help="Refuse a job that no machine can hold now.")
@verb(interrupted=NOTHING_IS_LOST)
@what_to_run(again=True)
def command(out: Output, wanted: Wanted, failed_only: bool, strict: bool) -> int:
    """Submit folders again whose job is over: a new job, with a bucket of its own.

    Of the current folder, or of those that --batch names. Image, command and limits are those of
    the last job, but for those that are given: leruli task-resubmit --memory 8000

    What the last job left is moved to leruli.history/JOBID: leruli.job, leruli.bucket, the logs and
    the results that were fetched. Its bucket remains until it is purged there.
    """
    from leruli.api import Service
    from leruli.batch import STAGERS, Case
    from leruli.folders import find_folders
    from leruli.journal import Journal
    from leruli.resubmitting import drop_refused, find_specs, make_room, select_over
    from leruli.storage import Store

    batch, keep = wanted.batch, wanted.with_results
    folders = find_folders(batch) if batch is not None else [HERE]
    with Service(settings.service_settings(), out.note) as service:
        store = Store(settings.storage_settings(), connections=STAGERS, notice=out.note)

        def selected(journal: Journal | None) -> tuple[Selection, dict[str, JobSpec]]:
            selection = select_over(
                service, folders, journal, failed_only=failed_only, new=wanted.new
            )
            specs = find_specs(store, service, selection, wanted.fields)
            drop_refused(service, selection, specs, out.warn, strict=strict)
            if batch is None:
                for why in (*selection.failed.values(), *selection.skipped.values()):
                    raise RefusedError(f"The folder is not submitted again: {why.rstrip('.')}.")
            make_room(selection, with_results=keep)
            tell_leftovers(out, selection.leftovers, again=True, with_results=keep)
            return selection, specs

        if batch is None:
            selection, specs = selected(None)
            for why in selection.failed.values():
                raise RefusedError(f"The folder is not submitted again: {why.rstrip('.')}.")
            prepared = prepare(HERE, specs[HERE], with_results=keep)
            return submit_prepared(out, store, service, prepared)
        with Journal.opened(batch) as journal:
            # Only now: whoever had the journal may have given the folders other jobs.
            selection, specs = selected(journal)
            tell_skipped(out, selection.skipped)
            cases = [Case(name, specs[name], keep) for name in selection.directories]
            return submit_folders(out, store, service, cases, journal, selection.failed)
