"""`leruli task-resubmit`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from leruli import settings
from leruli.commands._batches import tell_skipped
from leruli.commands._common import HERE, client_command
from leruli.commands._job_options import RunCommand, Wanted, what_to_run
from leruli.commands._leftovers import tell_leftovers
from leruli.commands._submission import (
    NOTHING_IS_LOST,
    submit_folders,
    submit_prepared,
)
from leruli.errors import RefusedError
from leruli.jobs.submit import JobSpec, prepare
from leruli.terminal.output import Output

if TYPE_CHECKING:
    from leruli.folder.journal import Journal
    from leruli.jobs.resubmit import Selection


@click.command("task-resubmit", cls=RunCommand)
@click.option("--failed", "failed_only", is_flag=True, help="Only where the job has failed.")
@click.option("--strict", is_flag=True, help="Refuse a job that no machine can hold now.")
@client_command(interrupted=NOTHING_IS_LOST)
@what_to_run(again=True)
def command(out: Output, wanted: Wanted, failed_only: bool, strict: bool) -> int:
    """Submit folders again whose job is over: a new job, with a bucket of its own.

    Submits the current folder, or the folders that --batch names. Image, command and limits are
    those of the last job unless they are given: leruli task-resubmit --memory 8000

    The files of the last job are moved to leruli.history/JOBID: leruli.job, leruli.bucket, the logs
    and the fetched results. Its bucket stays until it is purged there.
    """
    from leruli.folder.journal import Journal
    from leruli.folder.patterns import find_folders
    from leruli.jobs.mail import ask_before_submission, batch_of_one
    from leruli.jobs.resubmit import archive_previous, drop_refused, find_specs, select_over
    from leruli.jobs.submit_many import STAGERS, Case, join_batch
    from leruli.service.queue_client import QueueClient
    from leruli.storage.store import Store

    batch, keep = wanted.batch, wanted.with_results
    folders = find_folders(batch) if batch is not None else [HERE]
    with QueueClient(settings.service_settings(), out.note) as service:
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
            archive_previous(selection, with_results=keep)
            tell_leftovers(out, selection.leftovers, again=True, with_results=keep)
            return selection, specs

        if batch is None:
            batchid = None if wanted.mail is None else batch_of_one(service, wanted.mail)
            selection, specs = selected(None)
            for why in selection.failed.values():
                raise RefusedError(f"The folder is not submitted again: {why.rstrip('.')}.")
            prepared = prepare(HERE, specs[HERE], with_results=keep)
            return submit_prepared(out, store, service, prepared, batchid)
        with Journal.opened(batch) as journal:
            if wanted.mail is not None:
                # Before a file of a folder is moved.
                ask_before_submission(service, wanted.mail, join_batch(journal, None)[0])
            # Select after the lock: a process that held the journal may have given them other jobs.
            selection, specs = selected(journal)
            tell_skipped(out, selection.skipped)
            cases = [Case(name, specs[name], keep) for name in selection.directories]
            return submit_folders(
                out, store, service, cases, journal, selection.failed, mail=wanted.mail
            )
