"""`leruli task-cancel`."""

from __future__ import annotations

from pathlib import Path

import click

from leruli import settings
from leruli.commands._batches import batch_option, refuse_with_batch, tell
from leruli.commands._common import HERE, confirm, job_here, verb
from leruli.commands._standing import check_own
from leruli.counting import counted
from leruli.errors import RefusedError
from leruli.output import Output, printable
from leruli.settings import ServiceSettings


@click.command("task-cancel")
@batch_option
@click.option("--all-waiting", is_flag=True, help="All your jobs that wait in the queue; asks.")
@click.option("--user", metavar="NAME", help="With --all-waiting, as an admin: those of a user.")
@click.option("--yes", is_flag=True, help="Do not ask about --all-waiting.")
@click.argument("jobid", required=False)
@verb(interrupted="Look with `leruli task-status` or `leruli task-list` what was cancelled.")
def command(
    out: Output,
    batch: str | None,
    all_waiting: bool,
    user: str | None,
    yes: bool,
    jobid: str | None,
) -> int:
    """Cancel a job: JOBID, or the current folder's. Prints its state after that.

    Refused in a copied folder: the job is that of the original.

    With --batch, the jobs of many folders. With --all-waiting, all jobs of yours that are received:
    those that are submitted or run already go on. An admin names another user with --user.
    """
    refuse_with_batch(batch, jobid=jobid, all_waiting=all_waiting or None)
    if all_waiting and jobid is not None:
        raise click.UsageError("Give --all-waiting or JOBID, not both.")
    service_settings = settings.service_settings()
    if batch is not None:
        return _many(out, service_settings, batch)
    if all_waiting:
        whose = "your jobs" if user is None else f"jobs of {printable(user)}"
        confirm(f"All {whose} that wait in the queue will be cancelled. Go on?", yes=yes)
        return _all_waiting(out, service_settings, user)
    if user is not None:
        raise click.UsageError("--user goes with --all-waiting.")

    from leruli.api import Service

    if jobid is None or Path(jobid).is_dir():
        check_own(jobid or HERE)
    with Service(service_settings, out.note) as service:
        jobid = job_here(jobid, service)
        state = service.cancel(jobid)
    out.result(str(state), {"jobid": jobid, "status": state.status, "reason": state.reason})
    return 0


def _many(out: Output, service_settings: ServiceSettings, batch: str) -> int:
    from leruli.api import Service
    from leruli.folders import find_folders
    from leruli.journal import JournalView
    from leruli.manyjobs import NOT_SUBMITTED, Tally, ask_for_folders
    from leruli.standing import standings_of

    folders = []
    tally = Tally()
    for name, standing in standings_of(find_folders(batch)).items():
        if isinstance(standing, RefusedError):
            tally.failed[name] = str(standing)
        elif standing.is_copy:
            tally.failed[name] = standing.sentence(name)
        else:
            folders.append(name)
    # Not held: what there is can be ended while results are fetched, or on a disk that is full.
    journal = JournalView.of(batch)
    with Service(service_settings, out.note) as service:
        for one in ask_for_folders(folders, journal, service.find_jobs, service.cancel_many):
            if one.problem is not None:
                tally.failed[one.directory] = one.problem
            elif one.state is None and journal.is_held:
                tally.failed[one.directory] = (
                    "Another leruli is at work on this batch and may be submitting this folder. "
                    "Run the same command again when that has ended."
                )
            elif one.state is None:
                tally.skipped[one.directory] = NOT_SUBMITTED
            elif one.is_over and one.state.status != "cancelled":
                tally.skipped[one.directory] = f"{one.state.status} already"
            else:
                tally.done.append(one.directory)
    return tell(out, "Cancelled", tally, {})


def _all_waiting(out: Output, service_settings: ServiceSettings, user: str | None) -> int:
    from leruli.api import Service

    with Service(service_settings, out.note) as service:
        count = sum(service.cancel_waiting(user))
    out.done(f"Cancelled {counted(count, 'job')}.", {"cancelled": count})
    return 0
