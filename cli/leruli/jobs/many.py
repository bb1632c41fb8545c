"""The jobs of many folders: their states, and the choice of folders to work on."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

from leruli.cancellation import CheckCancelled
from leruli.errors import (
    BucketMissingError,
    LeruliError,
    RefusedError,
    StorageAwayError,
    UnknownCallError,
)
from leruli.folder.provenance import Provenance, provenances_of
from leruli.jobs.recover import Find, recall
from leruli.jobs.submit_many import STORAGE_FAILURES
from leruli.jobs.workers import work_through
from leruli.service.queue_client import BULK_LIMIT, JobState

if TYPE_CHECKING:
    from leruli.folder.journal import JournalView

_Result = TypeVar("_Result")

#: Threads that fetch or purge.
WORKERS = 8

#: The word for a folder without a job.
NOT_SUBMITTED = "not submitted"

#: The words for a folder without leruli.bucket, if the service is too old to know the bucket.
_NO_BUCKET = "without leruli.bucket"

#: The words for a folder without leruli.bucket whose bucket is not in the storage.
_NOT_IN_STORAGE = "purged, or in another storage"

#: Returns the bucket of a job.
Locate = Callable[[str], str]

#: A bulk call: takes job ids, returns a state or an error for each.
Ask = Callable[[Sequence[str]], "list[JobState | LeruliError]"]


@dataclass(frozen=True)
class FolderJob:
    """A folder with its job and bucket, as far as known, and the state of the job."""

    directory: str
    jobid: str | None = None
    bucket: str | None = None
    state: JobState | None = None
    problem: str | None = None  #: a sentence that says why there is no state

    @property
    def is_over(self) -> bool:
        """Whether the job is known to be over."""
        return self.state is not None and self.state.is_final


@dataclass
class Tally:
    """The outcome of each folder."""

    done: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)  #: folder: why, in a few words
    failed: dict[str, str] = field(default_factory=dict)  #: folder: why, in a sentence


def ask_for_folders(
    directories: Sequence[str],
    journal: JournalView | None,
    find: Find,
    ask: Ask,
    advance: Callable[[int], None] = lambda _: None,
) -> Iterator[FolderJob]:
    """Yield every folder with the state of its job, in order; one call asks for 1,000 jobs.

    For folders without a job id the job is searched in the journal, then with `find`.
    """
    for start in range(0, len(directories), BULK_LIMIT):
        some = [_read(name, journal) for name in directories[start : start + BULK_LIMIT]]
        some = _with_jobs(some, find)
        jobids = [one.jobid for one in some if one.jobid is not None]
        states = dict(zip(jobids, ask(jobids))) if jobids else {}
        for one in some:
            if one.jobid is None:
                yield one
            else:
                yield _with_state(one, states[one.jobid])
        advance(len(some))


def ownership(folders: Sequence[FolderJob]) -> Callable[[FolderJob], Provenance]:
    """Return a function that gives a folder's provenance and refuses a copied folder."""
    provenances = provenances_of(one.directory for one in folders)

    def check(one: FolderJob) -> Provenance:
        provenance = provenances[one.directory]
        if isinstance(provenance, RefusedError):
            raise provenance
        provenance.check_own(one.directory)
        return provenance

    return check


def why_not_over(one: FolderJob) -> str | None:
    """Return in a few words why a job is not over; raises RefusedError if its state is unknown."""
    if one.problem is not None:
        raise RefusedError(one.problem)
    if one.state is None:
        return NOT_SUBMITTED
    return None if one.state.is_final else one.state.status


def or_why_missing(one: FolderJob, work: Callable[[], _Result]) -> _Result | str:
    """Return the result of `work`, or in a few words why the folder has no bucket to work on.

    Raises BucketMissingError if the folder itself names the bucket that is missing.
    """
    try:
        return work()
    except UnknownCallError:
        return _NO_BUCKET
    except BucketMissingError:
        if one.bucket is not None:
            raise
        return _NOT_IN_STORAGE


def until_away(
    chosen: Iterator[FolderJob],
    work: Callable[[FolderJob, CheckCancelled], _Result],
    tally: Tally,
) -> Generator[tuple[FolderJob, _Result | LeruliError], None, None]:
    """Call `work` for the chosen folders, like `work_through`, until the storage stays away.

    Otherwise each further folder would wait for minutes. The tally records the folders that were
    not tried.
    """
    under_way: dict[str, FolderJob] = {}

    def noted() -> Iterator[FolderJob]:
        for one in chosen:
            under_way[one.directory] = one
            yield one

    failures = 0
    results = work_through(noted(), work, WORKERS)
    for one, outcome in results:
        del under_way[one.directory]
        yield one, outcome
        failures = failures + 1 if isinstance(outcome, StorageAwayError) else 0
        if failures == STORAGE_FAILURES:
            results.close()
            for untried in (*under_way.values(), *chosen):
                tally.failed[untried.directory] = f"Not tried, because others failed: {outcome}"
            return


def choose(
    folders: Sequence[FolderJob],
    tally: Tally,
    why_not: Callable[[FolderJob], str | None],
    advance: Callable[[int], None],
) -> Iterator[FolderJob]:
    """Yield the folders to work on and record the others in the tally.

    `why_not` returns why a folder is skipped, or raises LeruliError if it failed.
    """
    for one in folders:
        try:
            why = why_not(one)
        except LeruliError as error:
            tally.failed[one.directory] = str(error)
        else:
            if why is None:
                yield one
                continue
            tally.skipped[one.directory] = why
        advance(1)


def _read(directory: str, journal: JournalView | None) -> FolderJob:
    try:
        return FolderJob(directory, *recall(directory, journal))
    except LeruliError as error:
        return FolderJob(directory, problem=str(error))


def _with_jobs(folders: list[FolderJob], find: Find) -> list[FolderJob]:
    """Return the folders; those with a bucket and no job get the job of the bucket."""
    asked = {
        one.directory: one.bucket for one in folders if one.jobid is None and one.bucket is not None
    }
    try:
        jobs = dict(zip(asked, find(list(asked.values()))))
    except UnknownCallError as error:
        why = f"Its submission was interrupted, and it is unknown whether it has a job. {error}"
        return [replace(one, problem=why) if one.directory in asked else one for one in folders]
    return [replace(one, jobid=jobs.get(one.directory, one.jobid)) for one in folders]


def _with_state(one: FolderJob, state: JobState | LeruliError) -> FolderJob:
    if isinstance(state, LeruliError):
        return replace(one, problem=str(state))
    return replace(one, state=state)
