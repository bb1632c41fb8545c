"""`leruli task-submit`."""

from __future__ import annotations

import click

from leruli import settings
from leruli.commands._common import HERE, client_command
from leruli.commands._job_options import RunCommand, Wanted, what_to_run
from leruli.commands._new_job import make_new
from leruli.commands._submission import (
    NOTHING_IS_LOST,
    check_batch_name,
    submit_folders,
    submit_prepared,
)
from leruli.commands._then import then_option
from leruli.commands._waiting import wait_after_submission
from leruli.errors import RefusedError
from leruli.jobs.submit import JobSpec, prepare
from leruli.terminal.output import Output


@click.command("task-submit", cls=RunCommand)
@click.option("--strict", is_flag=True, help="Refuse a job that no machine can hold now.")
@click.option("--wait", is_flag=True, help="Wait until the job is over, as task-wait does.")
@then_option
@click.option("--name", help="With --batch: name of the batch.  [default: the folder's]")
@client_command(interrupted=NOTHING_IS_LOST)
@what_to_run(again=False)
def command(
    out: Output, wanted: Wanted, strict: bool, wait: bool, then: str | None, name: str | None
) -> int:
    """Submit the current folder to run COMMAND with the image CODE:VERSION.

    Prints the job id and writes it to leruli.job. The words of COMMAND are joined with spaces and
    run by bash, so one quoted string can hold any shell syntax. If COMMAND has options of its own,
    put -- before it: leruli task-submit --cores 4 psi4 1.3.2 -- psi4 -n 4 input.dat

    A copied folder, and one edited after its job was submitted, is refused without --new.
    """
    if name is not None:
        check_batch_name(name, wanted.batch)
    if then is not None and not wait:
        raise click.UsageError("--then goes with --wait: it runs when the jobs are over.")
    if not wait:
        return _submit(out, wanted, name, strict=strict)
    with out.merged():
        code = _submit(out, wanted, name, strict=strict)
        waited = wait_after_submission(out, wanted.batch, then)
    return code or waited


def _submit(out: Output, wanted: Wanted, name: str | None, *, strict: bool) -> int:
    from leruli.folder.journal import Journal
    from leruli.folder.patterns import find_folders
    from leruli.jobs.check import check_requests
    from leruli.jobs.mail import ask_before_submission, batch_of_one
    from leruli.jobs.submit import check_image
    from leruli.jobs.submit_many import STAGERS, Case, join_batch
    from leruli.service.queue_client import QueueClient
    from leruli.storage.store import Store

    spec = JobSpec(**wanted.fields)
    spec.check()
    batch, keep = wanted.batch, wanted.with_results
    # Check the folders before the first call to the service.
    folders = find_folders(batch) if batch is not None else [HERE]
    prepared = None
    if batch is None and not wanted.new:
        prepared = prepare(HERE, spec, with_results=keep)
    with QueueClient(settings.service_settings(), out.note) as service:
        store = Store(settings.storage_settings(), connections=STAGERS, notice=out.note)
        check_image(store, service, spec)
        check_requests(service, [spec.request("", "default")], out.warn, strict=strict)
        if batch is None:
            batchid = None if wanted.mail is None else batch_of_one(service, wanted.mail)
            if prepared is None:
                for why in make_new(out, service, folders, keep).values():
                    raise RefusedError(why)
                prepared = prepare(HERE, spec, with_results=keep)
            return submit_prepared(out, store, service, prepared, batchid)
        with Journal.opened(batch) as journal:
            if wanted.mail is not None:
                ask_before_submission(service, wanted.mail, join_batch(journal, name)[0])
            refused = make_new(out, service, folders, keep) if wanted.new else {}
            cases = [Case(folder, spec, keep) for folder in folders if folder not in refused]
            return submit_folders(out, store, service, cases, journal, refused, name, wanted.mail)
