"""`leruli task-cancel`."""

from __future__ import annotations

from pathlib import Path

import click

from leruli import settings
from leruli.commands._batches import batch_option, refuse_with_batch, tell
from leruli.commands._common import HERE, client_command, confirm, job_here
from leruli.commands._provenance import check_own
from leruli.errors import RefusedError
from leruli.settings import ServiceSettings
from leruli.terminal.output import Output, printable
from leruli.wording import counted


@click.command("task-cancel")
@batch_option
@click.option(
    "--all-waiting", is_flag=True, help="Cancel all your jobs that are received. Asks first."
)
@click.option(
    "--user", metavar="NAME", help="With --all-waiting, as an admin: the jobs of this user."
)
@click.option("--yes", is_flag=True, help="Do not ask before --all-waiting.")
@click.argument("jobid", required=False)
@client_command(interrupted="`leruli task-status` and `leruli task-list` show what was cancelled.")
def command(
    out: Output,
    batch: str | None,
    all_waiting: bool,
    user: str | None,
    yes: bool,
    jobid: str | None,
) -> int:
    """Cancel a job: JOBID, or the current folder's. Prints its state after that.

    Refused in a copied folder, because the job belongs to the original.

    --batch cancels the jobs of many folders. --all-waiting cancels all your jobs that are received.
    Jobs that are submitted or running continue. An admin names another user with --user.
    """
    refuse_with_batch(batch, jobid=jobid, all_waiting=all_waiting or None)
    if all_waiting and jobid is not None:
        raise click.UsageError("Give --all-waiting or JOBID, not both.")
    service_settings = settings.service_settings()
    if batch is not None:
        return _many(out, service_settings, batch)
    if all_waiting:
        whose = "your jobs" if user is None else f"jobs of {printable(user)}"
        confirm(f"All {whose} that are received will be cancelled. Continue?", yes=yes)
        return _all_waiting(out, service_settings, user)
    if user is not None:
        raise click.UsageError("--user goes with --all-waiting.")

    from leruli.service.queue_client import QueueClient

    if jobid is None or Path(jobid).is_dir():
        check_own(jobid or HERE)
    with QueueClient(service_settings, out.note) as service:
        jobid = job_here(jobid, service)
        state = service.cancel(jobid)
    out.result(str(state), {"jobid": jobid, "status": state.status, "reason": state.reason})
    return 0


def _many(out: Output, service_settings: ServiceSettings, batch: str) -> int:
    from leruli.folder.journal import JournalView
    from leruli.folder.patterns import find_folders
    from leruli.folder.provenance import provenances_of
    from leruli.jobs.many import NOT_SUBMITTED, Tally, ask_for_folders
    from leruli.service.queue_client import QueueClient

    folders = []
    tally = Tally()
    for name, provenance in provenances_of(find_folders(batch)).items():
        if isinstance(provenance, RefusedError):
            tally.failed[name] = str(provenance)
        elif provenance.is_copy:
            tally.failed[name] = provenance.sentence(name)
        else:
            folders.append(name)
    # Do not lock the journal: task-cancel must work during task-get, and on a full disk.
    journal = JournalView.of(batch)
    with QueueClient(service_settings, out.note) as service:
        for one in ask_for_folders(folders, journal, service.find_jobs, service.cancel_many):
            if one.problem is not None:
                tally.failed[one.directory] = one.problem
            elif one.state is None and journal.is_held:
                tally.failed[one.directory] = (
                    "Another leruli is at work on this batch and may be submitting this folder. "
                    "Run the same command again when it has ended."
                )
            elif one.state is None:
                tally.skipped[one.directory] = NOT_SUBMITTED
            elif one.is_over and one.state.status != "cancelled":
                tally.skipped[one.directory] = f"{one.state.status} already"
            else:
                tally.done.append(one.directory)
    return tell(out, "Cancelled", tally, {})


def _all_waiting(out: Output, service_settings: ServiceSettings, user: str | None) -> int:
    from leruli.service.queue_client import QueueClient

    with QueueClient(service_settings, out.note) as service:
        count = sum(service.cancel_waiting(user))
    out.done(f"Cancelled {counted(count, 'job')}.", {"cancelled": count})
    return 0
