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
from leruli.errors import NotFoundError, RefusedError
from leruli.output import Output
from leruli.submitting import JobSpec, prepare

if TYPE_CHECKING:
    from leruli.api import Service
    from leruli.journal import Journal
    from leruli.resubmitting import Selection
    from leruli.storage import Store


@click.command("task-resubmit", cls=RunCommand)
@click.option("--failed", "failed_only", is_flag=True, help="Only where the job has failed.")
@verb(interrupted=NOTHING_IS_LOST)
@what_to_run(again=True)
def command(out: Output, wanted: Wanted, failed_only: bool) -> int:
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
    from leruli.resubmitting import make_room
    from leruli.storage import Store

    batch, keep = wanted.batch, wanted.with_results
    folders = find_folders(batch) if batch is not None else [HERE]
    with Service(settings.service_settings(), out.note) as service:
        store = Store(settings.storage_settings(), connections=STAGERS, notice=out.note)

        def selected(journal: Journal | None) -> tuple[Selection, dict[str, JobSpec]]:
            selection = _select(service, folders, journal, wanted, failed_only=failed_only)
            specs = _specs(store, service, selection, wanted)
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


def _select(
    service: Service,
    folders: list[str],
    journal: Journal | None,
    wanted: Wanted,
    *,
    failed_only: bool,
) -> Selection:
    from leruli.manyjobs import ask_for_folders
    from leruli.recovery import recover
    from leruli.resubmitting import select, without_copies
    from leruli.standing import standings_of

    selection, own = without_copies(standings_of(folders), new=wanted.new and not failed_only)
    recover(journal, own, service.find_jobs)
    asked = ask_for_folders(own, journal, service.find_jobs, service.statuses)
    select(selection, asked, failed_only=failed_only)
    return selection


def _specs(
    store: Store, service: Service, selection: Selection, wanted: Wanted
) -> dict[str, JobSpec]:
    """Return what to run in each folder; those where that is not known are chosen no more.

    Raises NotFoundError when the image of all is not published, and RefusedError when the queue
    cannot give a job its size of /dev/shm.
    """
    from leruli.checking import check_requests
    from leruli.resubmitting import spec_of
    from leruli.submitting import check_image

    specs: dict[str, JobSpec] = {}
    for directory in selection.directories:
        try:
            specs[directory] = spec_of(directory, wanted.fields)
        except RefusedError as error:
            selection.refuse(directory, str(error))
    sized = [spec.request("", "default") for spec in specs.values() if spec.shmmb is not None]
    if sized:
        # An older queue would ignore the size.
        check_requests(service, sized)
    images = {spec.image: spec for spec in specs.values()}
    for image, spec in images.items():
        try:
            check_image(store, service, spec)
        except NotFoundError as error:
            if len(images) == 1:
                raise
            for directory in [name for name, one in specs.items() if one.image == image]:
                del specs[directory]
                selection.refuse(directory, str(error))
    return specs
