"""Listing, watching and cancelling jobs from Python."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from leruli import settings
from leruli.errors import LeruliError, NotFoundError, RefusedError
from leruli.folder.job_folder import JobFolder
from leruli.folder.provenance import Provenance, provenance_of, provenances_of
from leruli.folder.record import read_record
from leruli.jobs.many import NOT_SUBMITTED, Ask, FolderJob, ask_for_folders
from leruli.jobs.references import names_folder, resolve
from leruli.python_api.arguments import (
    Folder,
    Moment,
    as_folder,
    as_limit,
    as_states,
    as_text,
    as_utc,
    several,
    warn,
)
from leruli.python_api.batch_names import batch_id
from leruli.python_api.job import Job, JobDetail, JobStatus
from leruli.service.queue_client import BULK_LIMIT, QueueClient

if TYPE_CHECKING:
    from leruli.service.queue_client import JobState

_UNKNOWN = "unknown"


def task_status(jobid: Folder) -> dict[str, str | None]:
    """Return the state of a job.

    Parameters
    ----------
    jobid
        The job id, four or more of its first or last digits, the job's name, or its folder.

    Returns
    -------
    dict
        "status" is received, submitted, running, completed, failed or cancelled. "reason" is a
        sentence on the state, or None.

    Raises
    ------
    NotFoundError
        The caller has no such job.
    RefusedError
        The name fits several jobs.
    CopiedFolderError
        The job of the folder belongs to another folder.
    SettingsError, ServiceError
        A setting is missing or wrong, or the queue failed.

    Warns
    -----
    LeruliWarning
        The input in the folder changed after its job was submitted.
    """
    with QueueClient(settings.service_settings()) as service:
        state = service.status(_job(service, jobid))
    return {"status": state.status, "reason": state.reason}


def task_status_many(jobs: Iterable[Folder]) -> list[JobStatus]:
    """Return the states of many jobs, with one call per 1,000 jobs.

    Parameters
    ----------
    jobs
        Ids, names and folders in any order, each as for `task_status`.

    Returns
    -------
    list of JobStatus
        One for each job, in the same order. A problem with one is in its `state` and `reason`:
        "copy" (the job belongs to another folder), "edited" (the input changed after the
        submission), "not submitted", or "unknown".

    Raises
    ------
    TypeError
        `jobs` is no list of texts or paths.
    SettingsError, ServiceError
        A setting is missing or wrong, or the queue failed.
    """
    with QueueClient(settings.service_settings()) as service:
        return _many(service, jobs, service.statuses, with_copies=True)


def task_detail(jobid: Folder) -> JobDetail:
    """Return all details of a job.

    Parameters
    ----------
    jobid
        The job, as for `task_status`. Only for a folder the result has the command.

    Returns
    -------
    JobDetail

    Raises
    ------
    NotFoundError, RefusedError, CopiedFolderError
        As `task_status`.
    UnknownCallError
        The queue is older than this client and lacks this call.
    SettingsError, ServiceError
        A setting is missing or wrong, or the queue failed.
    """
    with QueueClient(settings.service_settings()) as service:
        answer = service.detail(_job(service, jobid))
    return JobDetail.of_detail(answer, _command(jobid))


def task_list(
    *,
    states: str | Iterable[str] | None = None,
    batch: str | None = None,
    since: Moment | None = None,
    until: Moment | None = None,
    limit: int | None = None,
    after: str | None = None,
) -> Iterator[Job]:
    """List the caller's own jobs, the newest first.

    Parameters
    ----------
    states
        Only jobs in this state, or in one of these states.
    batch
        Only jobs of this batch: its id, four or more of its first digits, or its name.
    since, until
        Only jobs that were received at `since` or later, and before `until`. A datetime, a date, a
        timedelta (that long before now), or a text of the command line such as "2026-11-24" or
        "7d". Without a time zone it is local time.
    limit
        The largest number of jobs; None: all.
    after
        Start after the job with this id.

    Returns
    -------
    iterator of Job
        It asks for 1,000 jobs at a time while it is used.

    Raises
    ------
    TypeError
        An argument is of the wrong type.
    NotFoundError, RefusedError
        There is no such batch, state or moment, or the name fits several batches.
    UnknownCallError
        The queue is older than this client and cannot choose by batch.
    SettingsError, ServiceError
        A setting is missing or wrong, or the queue failed. Also raised while the iterator is used.
    """
    filters: dict[str, Any] = {
        "states": as_states(states),
        "since": as_utc("since", since),
        "until": as_utc("until", until),
    }
    most = as_limit(limit)
    start = None if after is None else as_text("after", after)
    connection = settings.service_settings()
    if batch is not None:
        filters["batchid"] = batch_id(connection, batch)

    def listed() -> Iterator[Job]:
        with QueueClient(connection) as service:
            for page in service.jobs(most, start, **filters):
                yield from map(Job.of, page.entries)

    return listed()


def task_bucket(jobid: Folder) -> str:
    """Return the bucket of a job, which holds its files in the object storage.

    Parameters
    ----------
    jobid
        The job, as for `task_status`. An admin may name any job of the group, which is written to
        the audit log.

    Returns
    -------
    str

    Raises
    ------
    NotFoundError, RefusedError
        As `task_status`.
    UnknownCallError
        The queue is older than this client and lacks this call.
    SettingsError, ServiceError
        A setting is missing or wrong, or the queue failed.
    """
    with QueueClient(settings.service_settings()) as service:
        return service.bucket(resolve(service, as_folder("jobid", jobid)))


def task_cancel(jobid: Folder) -> dict[str, str | None]:
    """Cancel a job.

    Parameters
    ----------
    jobid
        The job, as for `task_status`.

    Returns
    -------
    dict
        The state of the job after the call, as `task_status` returns it.

    Raises
    ------
    NotFoundError, RefusedError, CopiedFolderError
        As `task_status`.
    SettingsError, ServiceError
        A setting is missing or wrong, or the queue failed.
    """
    named = as_folder("jobid", jobid)
    with QueueClient(settings.service_settings()) as service:
        if names_folder(named):
            provenance_of(named).check_own(named)
        state = service.cancel(resolve(service, named))
    return {"status": state.status, "reason": state.reason}


def task_cancel_many(jobs: Iterable[Folder]) -> list[JobStatus]:
    """Cancel many jobs, with one call per 1,000 jobs.

    Parameters
    ----------
    jobs
        The jobs, as for `task_status_many`. The job of a copied folder is not cancelled.

    Returns
    -------
    list of JobStatus
        The state of each job after the call, in the same order. Jobs that were over do not change.

    Raises
    ------
    TypeError
        `jobs` is no list of texts or paths.
    SettingsError, ServiceError
        A setting is missing or wrong, or the queue failed.
    """
    with QueueClient(settings.service_settings()) as service:
        return _many(service, jobs, service.cancel_many, with_copies=False)


def task_cancel_waiting(user: str | None = None) -> int:
    """Cancel all of the caller's jobs that are in state received, wherever their folders are.

    Parameters
    ----------
    user
        For admins: cancel the jobs of this user instead.

    Returns
    -------
    int
        The number of jobs that were cancelled.

    Raises
    ------
    RefusedError
        `user` was given without the secret of an admin.
    SettingsError, ServiceError
        A setting is missing or wrong, or the queue failed.
    """
    whose = None if user is None else as_text("user", user)
    with QueueClient(settings.service_settings()) as service:
        return sum(service.cancel_waiting(whose))


def _job(service: QueueClient, jobid: Folder) -> str:
    """Return the id of a named job. Raises CopiedFolderError for a copied folder."""
    named = as_text("jobid", as_folder("jobid", jobid))
    if names_folder(named):
        provenance = provenance_of(named)
        provenance.check_own(named)
        if provenance.edited:
            warn(provenance.sentence(named))
    return resolve(service, named)


def _command(jobid: Folder) -> str | None:
    """Return the command of a job, None unless `jobid` is a folder with the record of the job."""
    directory = as_folder("jobid", jobid)
    if not names_folder(directory):
        return None
    record = read_record(directory)
    if record is None or record.bucket != JobFolder(directory).bucket():
        return None
    found = record.spec.get("command")
    return found if isinstance(found, str) else None


def _many(
    service: QueueClient, jobs: Iterable[Folder], ask: Ask, *, with_copies: bool
) -> list[JobStatus]:
    """Ask about jobs, each once. The jobs of copied folders only `with_copies`."""
    named = [
        as_text("each of jobs", as_folder("each of jobs", one)) for one in several("jobs", jobs)
    ]
    distinct = list(dict.fromkeys(named))
    folders = [one for one in distinct if names_folder(one)]
    provenances = provenances_of(folders)
    asked = [one for one in folders if with_copies or _is_own(provenances[one])]
    found = {name: _of_copy(name, provenances[name]) for name in folders if name not in asked}
    for folder in ask_for_folders(asked, None, service.find_jobs, ask):
        found[folder.directory] = _of_folder(folder, provenances[folder.directory])
    others = [one for one in distinct if one not in provenances]
    found.update(_of_ids(service, others, ask))
    return [found[one] for one in named]


def _is_own(provenance: Provenance | RefusedError) -> bool:
    return isinstance(provenance, Provenance) and not provenance.is_copy


def _of_copy(name: str, provenance: Provenance | RefusedError) -> JobStatus:
    if isinstance(provenance, RefusedError):
        return JobStatus(name, None, _UNKNOWN, str(provenance), None)
    return JobStatus(name, JobFolder(name).job(), provenance.word, provenance.sentence(name), None)


def _of_folder(one: FolderJob, provenance: Provenance | RefusedError) -> JobStatus:
    status, reason = (_UNKNOWN if one.problem else NOT_SUBMITTED), one.problem
    job_state = None
    if one.state is not None:
        status, reason = one.state.status, one.state.reason
        job_state = status
    if isinstance(provenance, RefusedError):
        status, reason = _UNKNOWN, str(provenance)
    elif not provenance.is_sound:
        status, reason = provenance.word, provenance.sentence(one.directory)
    return JobStatus(one.directory, one.jobid, status, reason, job_state)


def _of_ids(service: QueueClient, names: list[str], ask: Ask) -> dict[str, JobStatus]:
    found: dict[str, JobStatus] = {}
    ids: dict[str, str] = {}
    for name in names:
        try:
            ids[name] = resolve(service, name)
        except (NotFoundError, RefusedError) as error:
            found[name] = JobStatus(name, None, _UNKNOWN, str(error), None)
    distinct = list(dict.fromkeys(ids.values()))
    states: dict[str, JobState | LeruliError] = {}
    for start in range(0, len(distinct), BULK_LIMIT):
        some = distinct[start : start + BULK_LIMIT]
        states.update(zip(some, ask(some)))
    for name, jobid in ids.items():
        state = states[jobid]
        found[name] = (
            JobStatus(name, jobid, _UNKNOWN, str(state), None)
            if isinstance(state, LeruliError)
            else JobStatus(name, jobid, state.status, state.reason, state.status)
        )
    return found
