"""`leruli task-status`."""

from __future__ import annotations

from collections import Counter

import click

from leruli import settings
from leruli.brief import BriefColumn, Cut, id_column, state_column
from leruli.commands._batches import batch_option, refuse_with_batch
from leruli.commands._common import HERE, job_here, verb
from leruli.commands._job_detail import show_job
from leruli.commands._listing import in_states, wide_option
from leruli.commands._standing import tell_standing
from leruli.counting import counted
from leruli.errors import RefusedError
from leruli.output import Output
from leruli.references import is_folder
from leruli.states import STATES
from leruli.tables import Column

_COLUMNS = (
    Column("folder", "folder"),
    Column("job", "jobid"),
    Column("state", "status"),
    Column("reason", "reason"),
)

_BRIEF = (
    BriefColumn("folder", lambda one: one.get("folder"), at_most=32, cut=Cut.MIDDLE),
    id_column(),
    state_column("status", "state"),
    BriefColumn("reason", lambda one: one.get("reason"), at_most=None, cut=Cut.END),
)


@click.command("task-status")
@batch_option
@in_states
@wide_option
@click.argument("jobid", required=False)
@verb(interrupted="Nothing was changed.")
def command(
    out: Output, batch: str | None, states: tuple[str, ...], wide: bool, jobid: str | None
) -> int:
    """Print the state of a job: of JOBID, or of the current folder's.

    JOBID may also be four or more first or last digits of an id, the job's name, or its folder.
    received, submitted, running, completed, failed or cancelled, with the reason where there is
    one. The exit code is 0 whenever the state could be read, whatever it is. With --batch, the
    states of the jobs of many folders, and how many there are of each.

    A copied folder, and one edited after its job was submitted, is told: the exit code is 1.
    """
    refuse_with_batch(batch, jobid=jobid)
    if states and batch is None:
        raise click.UsageError("--state chooses among the folders of --batch.")
    service_settings = settings.service_settings()
    if batch is not None:
        return _many(out, service_settings, batch, states, wide=wide)

    from leruli.api import Service

    # A folder may have been named in the place of an id.
    names_job = jobid is not None and not is_folder(jobid)
    directory = HERE if jobid is None or names_job else jobid
    with Service(service_settings, out.note) as service:
        show_job(out, service, job_here(jobid, service), directory)
    return 0 if names_job else tell_standing(out, directory)


def _many(
    out: Output,
    service_settings: settings.ServiceSettings,
    batch: str,
    states: tuple[str, ...],
    *,
    wide: bool,
) -> int:
    from leruli.api import Service
    from leruli.folders import find_folders
    from leruli.journal import JournalView
    from leruli.manyjobs import NOT_SUBMITTED, FolderJob, ask_for_folders
    from leruli.standing import COPY, EDITED, standings_of

    def entry(one: FolderJob) -> dict[str, str | None]:
        status, reason = ("unknown" if one.problem else NOT_SUBMITTED), one.problem
        if one.state is not None:
            status, reason = one.state.status, one.state.reason
        jobstatus = status
        standing = standings[one.directory]
        if isinstance(standing, RefusedError):
            status, reason = "unknown", str(standing)
        elif not standing.is_sound:
            status, reason = standing.word, f"{standing.reason}; its job is {jobstatus}"
        return {
            "folder": one.directory,
            "jobid": one.jobid,
            "status": status,
            "reason": reason,
            "jobstatus": jobstatus,
        }

    folders = find_folders(batch)
    standings = standings_of(folders)
    # Not held: one looks while the batch is being submitted, too.
    journal = JournalView.of(batch)
    with Service(service_settings, out.note) as service:
        asked = ask_for_folders(folders, journal, service.find_jobs, service.statuses)
        entries = [entry(one) for one in asked]
    counts = Counter(str(one["status"]) for one in entries)
    shown = [one for one in entries if not states or one["status"] in states]
    brief = None if wide else _BRIEF
    out.table("folders", _COLUMNS, shown, more={"counts": counts}, brief=brief)
    ordered = sorted(counts, key=lambda word: [*STATES, word].index(word))
    told = ", ".join(f"{counts[word]} {word}" for word in ordered)
    out.summary(f"{counted(len(entries), 'folder')}: {told}.")
    return 1 if any(counts[word] for word in ("unknown", NOT_SUBMITTED, COPY, EDITED)) else 0
