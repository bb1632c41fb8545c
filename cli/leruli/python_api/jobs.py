"""Following and cancelling jobs from Python."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from leruli import settings
from leruli.api import BULK_LIMIT, Service
from leruli.errors import LeruliError, NotFoundError, RefusedError
from leruli.jobfolder import JobFolder
from leruli.manyjobs import NOT_SUBMITTED, Ask, FolderJob, ask_for_folders
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
from leruli.python_api.job import Job, JobDetail, JobStatus
from leruli.record import read_record
from leruli.references import names_folder, resolve
from leruli.standing import Standing, standing_of, standings_of

if TYPE_CHECKING:
    from leruli.api import JobState

_UNKNOWN = "unknown"


def task_status(jobid: Folder) -> dict[str, str | None]:
    """Return the state of a job.

    Parameters
    ----------
    jobid
        The job id; also four or more of its first or last digits, the job's name, or its folder.

    Returns
    -------
    dict
        "status": received, submitted, running, completed, failed or cancelled; "reason": why, in a
        sentence, or None.

    Raises
    ------
    NotFoundError
        There is no such job of one's own.
    RefusedError
        The name fits several jobs.
    CopiedFolderError
        The folder holds the job of another one.
    SettingsError, ServiceError
        A setting, or the queue.

    Warns
    -----
    LeruliWarning
        The input in the folder changed after its job was submitted.
    """
    with Service(settings.service_settings()) as service:
        state = service.status(_job(service, jobid))
    return {"status": state.status, "reason": state.reason}


def task_status_many(jobs: Iterable[Folder]) -> list[JobStatus]:
    """Return the states of many jobs; a thousand are asked for in one call.

    Parameters
    ----------
    jobs
        As the argument of `task_status`: ids or folders, mixed if you like.

    Returns
    -------
    list of JobStatus
        One for each, in the same order. What is the matter with one is in its `state` and `reason`:
        "copy" (the job is another folder's), "edited" (the input changed after the submission),
        "not submitted", "unknown".

    Raises
    ------
    TypeError
        `jobs` is no list of texts or paths.
    SettingsError, ServiceError
        A setting, or the queue.
    """
    with Service(settings.service_settings()) as service:
        return _many(service, jobs, service.statuses, with_copies=True)


def task_detail(jobid: Folder) -> JobDetail:
    """Return all that is known of a job.

    Parameters
    ----------
    jobid
        As that of `task_status`. Of a folder the command is known, too.

    Returns
    -------
    JobDetail

    Raises
    ------
    NotFoundError, RefusedError, CopiedFolderError
        As `task_status`.
    UnknownCallError
        The queue is older than this client and cannot tell.
    SettingsError, ServiceError
        A setting, or the queue.
    """
    with Service(settings.service_settings()) as service:
        answer = service.detail(_job(service, jobid))
    return JobDetail.of_detail(answer, _command(jobid))


def task_list(
    *,
    states: str | Iterable[str] | None = None,
    since: Moment | None = None,
    until: Moment | None = None,
    limit: int | None = None,
    after: str | None = None,
) -> Iterator[Job]:
    """List one's own jobs, the newest first.

    Parameters
    ----------
    states
        Only jobs in this state, or in one of these.
    since, until
        Only jobs that were received then or later, and before then. A datetime, a date, a timedelta
        (so long ago) or a text of the command line such as "2026-11-24" or "7d". Without a zone it
        is this machine's time.
    limit
        At most so many jobs; None: all. They are asked for a thousand at a time, as they are used.
    after
        Go on after the job of this id.

    Returns
    -------
    iterator of Job

    Raises
    ------
    TypeError
        An argument is of the wrong type.
    RefusedError
        There is no such state, or no such moment.
    SettingsError, ServiceError
        A setting, or the queue; also while the iterator is used.
    """
    filters = {
        "states": as_states(states),
        "since": as_utc("since", since),
        "until": as_utc("until", until),
    }
    most = as_limit(limit)
    start = None if after is None else as_text("after", after)
    connection = settings.service_settings()

    def listed() -> Iterator[Job]:
        with Service(connection) as service:
            for page in service.jobs(most, start, **filters):
                yield from map(Job.of, page.entries)

    return listed()


def task_bucket(jobid: Folder) -> str:
    """Return the bucket of a job: the name of the place where its files are in the storage.

    Parameters
    ----------
    jobid
        As that of `task_status`; an admin may name any job of the group, which is written down.

    Returns
    -------
    str

    Raises
    ------
    NotFoundError, RefusedError
        As `task_status`.
    UnknownCallError
        The queue is older than this client and cannot tell.
    SettingsError, ServiceError
        A setting, or the queue.
    """
    with Service(settings.service_settings()) as service:
        return service.bucket(resolve(service, as_folder("jobid", jobid)))


def task_cancel(jobid: Folder) -> dict[str, str | None]:
    """Cancel a job.

    Parameters
    ----------
    jobid
        As that of `task_status`.

    Returns
    -------
    dict
        The state of the job after that, as `task_status` returns it.

    Raises
    ------
    NotFoundError, RefusedError, CopiedFolderError
        As `task_status`.
    SettingsError, ServiceError
        A setting, or the queue.
    """
    named = as_folder("jobid", jobid)
    with Service(settings.service_settings()) as service:
        if names_folder(named):
            standing_of(named).check_own(named)
        state = service.cancel(resolve(service, named))
    return {"status": state.status, "reason": state.reason}


def task_cancel_many(jobs: Iterable[Folder]) -> list[JobStatus]:
    """Cancel many jobs; a thousand in one call.

    Parameters
    ----------
    jobs
        As that of `task_status_many`. The job of a copied folder is not cancelled.

    Returns
    -------
    list of JobStatus
        Where each is after that, in the same order. Jobs that were over stay as they are.

    Raises
    ------
    TypeError
        `jobs` is no list of texts or paths.
    SettingsError, ServiceError
        A setting, or the queue.
    """
    with Service(settings.service_settings()) as service:
        return _many(service, jobs, service.cancel_many, with_copies=False)


def task_cancel_waiting(user: str | None = None) -> int:
    """Cancel all of one's own jobs that are received and wait, wherever their folders are.

    Parameters
    ----------
    user
        As an admin: the jobs of this user instead.

    Returns
    -------
    int
        How many were cancelled.

    Raises
    ------
    RefusedError
        An admin's secret is needed.
    SettingsError, ServiceError
        A setting, or the queue.
    """
    whose = None if user is None else as_text("user", user)
    with Service(settings.service_settings()) as service:
        return sum(service.cancel_waiting(whose))


def _job(service: Service, jobid: Folder) -> str:
    """Return the id of a job that was named; the folder of another one's is refused."""
    named = as_text("jobid", as_folder("jobid", jobid))
    if names_folder(named):
        standing = standing_of(named)
        standing.check_own(named)
        if standing.edited:
            warn(standing.sentence(named))
    return resolve(service, named)


def _command(jobid: Folder) -> str | None:
    """Return the command of a job, if its folder was named and has the record of it."""
    directory = as_folder("jobid", jobid)
    if not names_folder(directory):
        return None
    record = read_record(directory)
    if record is None or record.bucket != JobFolder(directory).bucket():
        return None
    found = record.spec.get("command")
    return found if isinstance(found, str) else None


def _many(
    service: Service, jobs: Iterable[Folder], ask: Ask, *, with_copies: bool
) -> list[JobStatus]:
    """Ask about jobs, each once. The jobs of copied folders only `with_copies`."""
    named = [
        as_text("each of jobs", as_folder("each of jobs", one)) for one in several("jobs", jobs)
    ]
    distinct = list(dict.fromkeys(named))
    folders = [one for one in distinct if names_folder(one)]
    standings = standings_of(folders)
    asked = [one for one in folders if with_copies or _is_own(standings[one])]
    found = {name: _of_copy(name, standings[name]) for name in folders if name not in asked}
    for folder in ask_for_folders(asked, None, service.find_jobs, ask):
        found[folder.directory] = _of_folder(folder, standings[folder.directory])
    others = [one for one in distinct if one not in standings]
    found.update(_of_ids(service, others, ask))
    return [found[one] for one in named]


def _is_own(standing: Standing | RefusedError) -> bool:
    return isinstance(standing, Standing) and not standing.is_copy


def _of_copy(name: str, standing: Standing | RefusedError) -> JobStatus:
    if isinstance(standing, RefusedError):
        return JobStatus(name, None, _UNKNOWN, str(standing), None)
    return JobStatus(name, JobFolder(name).job(), standing.word, standing.sentence(name), None)


def _of_folder(one: FolderJob, standing: Standing | RefusedError) -> JobStatus:
    status, reason = (_UNKNOWN if one.problem else NOT_SUBMITTED), one.problem
    job_state = None
    if one.state is not None:
        status, reason = one.state.status, one.state.reason
        job_state = status
    if isinstance(standing, RefusedError):
        status, reason = _UNKNOWN, str(standing)
    elif not standing.is_sound:
        status, reason = standing.word, standing.sentence(one.directory)
    return JobStatus(one.directory, one.jobid, status, reason, job_state)


def _of_ids(service: Service, names: list[str], ask: Ask) -> dict[str, JobStatus]:
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
