"""`leruli task-status`."""

from __future__ import annotations

from collections import Counter

import click

from leruli import settings
from leruli.commands._batches import batch_option, refuse_with_batch, tell_failures
from leruli.commands._common import HERE, client_command, job_here
from leruli.commands._job_detail import show_job
from leruli.commands._listing import in_states, wide_option
from leruli.commands._provenance import tell_provenance
from leruli.commands._waiting import jobs_of_batch
from leruli.commands._watching import tell_watched, watch_batch, watch_job, watch_option
from leruli.errors import RefusedError
from leruli.jobs.references import is_folder
from leruli.service.states import STATES
from leruli.terminal.brief import BriefColumn, Cut, id_column, state_column
from leruli.terminal.output import Output
from leruli.terminal.tables import Column
from leruli.wording import counted

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
@watch_option
@click.argument("jobid", required=False)
@client_command(interrupted="Nothing was changed.")
def command(
    out: Output,
    batch: str | None,
    states: tuple[str, ...],
    wide: bool,
    watch: bool,
    jobid: str | None,
) -> int:
    """Print the state of a job: of JOBID, or of the current folder's.

    JOBID may also be four or more first or last digits of an id, the job's name, or its folder.
    The state is received, submitted, running, completed, failed or cancelled. A reason follows if
    there is one. The exit code is 0 if the state could be read, whatever it is.

    --batch prints the states of the jobs of many folders, and the number of jobs in each state.

    --watch shows each change until the job is over, of --batch a live table with the counts. The
    exit code is then that of task-wait.

    For a copied folder, and for one edited after its job was submitted, an error is printed and the
    exit code is 1.
    """
    refuse_with_batch(batch, jobid=jobid)
    if states and batch is None:
        raise click.UsageError("--state chooses among the folders of --batch.")
    if watch and (states or wide):
        raise click.UsageError("--watch goes with neither --state nor --wide.")
    service_settings = settings.service_settings()
    if watch:
        return _watch(out, service_settings, batch, jobid)
    if batch is not None:
        return _many(out, service_settings, batch, states, wide=wide)

    from leruli.service.queue_client import QueueClient

    # A folder may have been named in the place of an id.
    names_job = jobid is not None and not is_folder(jobid)
    directory = HERE if jobid is None or names_job else jobid
    with QueueClient(service_settings, out.note) as service:
        show_job(out, service, job_here(jobid, service), directory)
    return 0 if names_job else tell_provenance(out, directory)


def _watch(
    out: Output, service_settings: settings.ServiceSettings, batch: str | None, jobid: str | None
) -> int:
    from leruli.jobs.watch import WatchedJobs
    from leruli.service.queue_client import QueueClient

    with QueueClient(service_settings, out.note) as service:
        if batch is None:
            return watch_job(out, service, job_here(jobid, service))
        jobs, problems = jobs_of_batch(service, batch)
        watched = WatchedJobs(service, jobs)
        found, code = watch_batch(out, lambda: {"name": batch, **watched.ask()})
    problems = {**problems, **watched.problems}
    tell_watched(out, {**found, "problems": problems})
    tell_failures(out, "Not watched", problems)
    return 1 if problems else code


def _many(
    out: Output,
    service_settings: settings.ServiceSettings,
    batch: str,
    states: tuple[str, ...],
    *,
    wide: bool,
) -> int:
    from leruli.folder.journal import JournalView
    from leruli.folder.patterns import find_folders
    from leruli.folder.provenance import COPY, EDITED, provenances_of
    from leruli.jobs.many import NOT_SUBMITTED, FolderJob, ask_for_folders
    from leruli.service.queue_client import QueueClient

    def entry(one: FolderJob) -> dict[str, str | None]:
        status, reason = ("unknown" if one.problem else NOT_SUBMITTED), one.problem
        if one.state is not None:
            status, reason = one.state.status, one.state.reason
        jobstatus = status
        provenance = provenances[one.directory]
        if isinstance(provenance, RefusedError):
            status, reason = "unknown", str(provenance)
        elif not provenance.is_sound:
            status, reason = provenance.word, f"{provenance.reason}; its job is {jobstatus}"
        return {
            "folder": one.directory,
            "jobid": one.jobid,
            "status": status,
            "reason": reason,
            "jobstatus": jobstatus,
        }

    folders = find_folders(batch)
    provenances = provenances_of(folders)
    # Do not lock the journal: task-status must work during a submission.
    journal = JournalView.of(batch)
    with QueueClient(service_settings, out.note) as service:
        asked = ask_for_folders(folders, journal, service.find_jobs, service.statuses)
        entries = [entry(one) for one in asked]
    counts = Counter(str(one["status"]) for one in entries)
    shown = [one for one in entries if not states or one["status"] in states]
    brief = None if wide else _BRIEF
    out.table("folders", _COLUMNS, shown, more={"counts": counts}, brief=brief)
    ordered = sorted(counts, key=lambda word: [*STATES, word].index(word))
    states_text = ", ".join(f"{counts[word]} {word}" for word in ordered)
    out.summary(f"{counted(len(entries), 'folder')}: {states_text}.")
    return 1 if any(counts[word] for word in ("unknown", NOT_SUBMITTED, COPY, EDITED)) else 0
