"""`leruli task-submit`."""

from __future__ import annotations

import click

from leruli import settings
from leruli.commands._common import HERE, verb
from leruli.commands._submission import (
    NOTHING_IS_LOST,
    RunCommand,
    submit_folders,
    submit_prepared,
    what_to_run,
)
from leruli.output import Output
from leruli.submitting import JobSpec, prepare


@click.command("task-submit", cls=RunCommand)
@verb(interrupted=NOTHING_IS_LOST)
@what_to_run
def command(out: Output, spec: JobSpec, batch: str | None) -> int:
    """Submit the current folder to run COMMAND with the image CODE:VERSION.

    Prints the job id and leaves it in leruli.job. The words of COMMAND are joined with spaces and
    run by bash, so one quoted string can hold any shell syntax. If COMMAND has options of its own,
    put -- before it: leruli task-submit psi4 1.5 -- psi4 -n 4 input.dat
    """
    from leruli.api import Service
    from leruli.batch import STAGERS
    from leruli.folders import find_folders
    from leruli.journal import Journal
    from leruli.storage import Store
    from leruli.submitting import check_image

    # What is the matter with a folder, or with all, is said before anybody is asked.
    folders = find_folders(batch) if batch is not None else []
    prepared = prepare(HERE, spec.command) if batch is None else None
    with Service(settings.service_settings(), out.note) as service:
        store = Store(settings.storage_settings(), connections=STAGERS, notice=out.note)
        check_image(store, service, spec)
        if batch is not None:
            with Journal.opened(batch) as journal:
                return submit_folders(out, store, service, spec, folders, journal)
        if prepared is not None:
            submit_prepared(out, store, service, spec, prepared)
    return 0
