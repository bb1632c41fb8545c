"""`leruli task-submit`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from leruli import settings
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
from leruli.jobfolder import JobFolder
from leruli.output import Output
from leruli.submitting import JobSpec, prepare

if TYPE_CHECKING:
    from leruli.api import Service


@click.command("task-submit", cls=RunCommand)
@click.option("--strict", is_flag=True, help="Refuse a job that no machine can hold now.")
@verb(interrupted=NOTHING_IS_LOST)
@what_to_run(again=False)
def command(out: Output, wanted: Wanted, strict: bool) -> int:
    """Submit the current folder to run COMMAND with the image CODE:VERSION.

    Prints the job id and leaves it in leruli.job. The words of COMMAND are joined with spaces and
    run by bash, so one quoted string can hold any shell syntax. If COMMAND has options of its own,
    put -- before it: leruli task-submit --cores 4 psi4 1.3.2 -- psi4 -n 4 input.dat

    A copied folder, and one edited after its job was submitted, is refused without --new.
    """
    from leruli.api import Service
    from leruli.batch import STAGERS, Case
    from leruli.checking import check_requests
    from leruli.folders import find_folders
    from leruli.journal import Journal
    from leruli.storage import Store
    from leruli.submitting import check_image

    spec = JobSpec(**wanted.fields)
    spec.check()
    batch, keep = wanted.batch, wanted.with_results
    # What is the matter with a folder, or with all, is said before anybody is asked.
    folders = find_folders(batch) if batch is not None else [HERE]
    prepared = None
    if batch is None and not wanted.new:
        prepared = prepare(HERE, spec, with_results=keep)
    with Service(settings.service_settings(), out.note) as service:
        store = Store(settings.storage_settings(), connections=STAGERS, notice=out.note)
        check_image(store, service, spec)
        check_requests(service, [spec.request("", "default")], out.warn, strict=strict)
        if batch is None:
            if prepared is None:
                for why in _make_new(out, service, folders, keep).values():
                    raise RefusedError(why)
                prepared = prepare(HERE, spec, with_results=keep)
            return submit_prepared(out, store, service, prepared)
        with Journal.opened(batch) as journal:
            refused = _make_new(out, service, folders, keep) if wanted.new else {}
            cases = [Case(name, spec, keep) for name in folders if name not in refused]
            return submit_folders(out, store, service, cases, journal, refused)


def _make_new(
    out: Output, service: Service, folders: list[str], with_results: bool
) -> dict[str, str]:
    """Let copied and edited folders be submitted; returns those that may not be, and why."""
    from leruli.resubmitting import make_room, select_unsound
    from leruli.standing import standings_of

    selection = select_unsound(service, standings_of(folders), alone=folders == [HERE])
    for name in selection.copies:
        job = JobFolder(name).job()
        if job is not None and name == HERE:
            out.note(f"The job that this folder named, {job}, goes on without it.")
    make_room(selection, with_results=with_results)
    tell_leftovers(out, selection.leftovers, again=True, with_results=with_results)
    return selection.failed
