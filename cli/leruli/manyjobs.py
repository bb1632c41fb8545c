"""The jobs of many folders: where they are, cancel them, fetch and purge what they left."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

from leruli.api import BULK_LIMIT, JobState
from leruli.batch import STORAGE_FAILURES
from leruli.errors import LeruliError, StorageAwayError, UnknownCallError
from leruli.fetching import Fetched, fetch, select_results
from leruli.jobfolder import JobFolder
from leruli.purging import purge, why_keep
from leruli.recovery import Find, recall
from leruli.workers import work_through

if TYPE_CHECKING:
    from leruli.journal import Journal, JournalView
    from leruli.storage import Store

_Result = TypeVar("_Result")

#: Threads that fetch or purge.
WORKERS = 8

#: Said of a folder without a job.
NOT_SUBMITTED = "not submitted"

#: A bulk call: job ids to a state each, or why there is none.
Ask = Callable[[Sequence[str]], "list[JobState | LeruliError]"]


@dataclass(frozen=True)
class FolderJob:
    """A folder, its job and its bucket as far as it knows them, and where the job is."""

    directory: str
    jobid: str | None = None
    bucket: str | None = None
    state: JobState | None = None
    problem: str | None = None  #: why there is no state, in a sentence

    @property
    def is_over(self) -> bool:
        """Whether the job is known to be over."""
        return self.state is not None and self.state.is_final


@dataclass
class Tally:
    """What became of each folder."""

    done: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)  #: folder: why, in a few words
    failed: dict[str, str] = field(default_factory=dict)  #: folder: why, in a sentence


@dataclass
class FetchTally(Tally):
    """What became of each folder, and how much came."""

    files: int = 0
    total_bytes: int = 0


def ask_for_folders(
    directories: Sequence[str],
    journal: JournalView | None,
    find: Find,
    ask: Ask,
    advance: Callable[[int], None] = lambda _: None,
) -> Iterator[FolderJob]:
    """Yield every folder with the state of its job, in order; a thousand are asked for at once.

    The jobs of folders that do not know theirs are looked for in the journal, and with `find`.
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


def fetch_folders(
    store: Store,
    folders: Sequence[FolderJob],
    journal: Journal,
    *,
    everything: bool = False,
    again: bool = False,
    advance: Callable[[int], None] = lambda _: None,
) -> FetchTally:
    """Fetch the results of all jobs that are over, but for those that were fetched before.

    With `again` these too; `everything` fetches the archive of the input as well.
    """
    tally = FetchTally()

    def why_not(one: FolderJob) -> str | None:
        if one.bucket is None:
            return "purged"
        if journal.record(one.directory).fetched_job == one.jobid and not again:
            return "fetched before"
        return None

    def work(one: FolderJob, proceed: Callable[[int], None]) -> Fetched:
        bucket = str(one.bucket)

        def bring() -> Fetched:
            items = select_results(store, bucket, everything=everything)
            return fetch(store, bucket, items, one.directory, proceed, threads=1)

        return store.patience.through(bring, proceed)

    chosen = _choose(folders, tally, why_not, advance)
    for one, outcome in _until_away(chosen, work, tally):
        advance(1)
        if isinstance(outcome, LeruliError):
            tally.failed[one.directory] = str(outcome)
            continue
        tally.files += len(outcome.files)
        tally.total_bytes += outcome.total_bytes
        if outcome.refused:
            tally.failed[one.directory] = " ".join(
                f"{name} was not fetched: {why}" for name, why in outcome.refused.items()
            )
        else:
            tally.done.append(one.directory)
            journal.note_fetched(one.directory, str(one.jobid))
    return tally


def purge_folders(
    store: Store,
    folders: Sequence[FolderJob],
    journal: JournalView,
    *,
    force: bool = False,
    advance: Callable[[int], None] = lambda _: None,
) -> Tally:
    """Purge the buckets of all jobs that are over.

    Not of one that completed and was not fetched, nor of any that was fetched only in part. It was
    fetched if the journal says so, or if its folder holds all of its results with the content that
    they have in the storage. With `force` all buckets are purged, whatever state their jobs are in.
    """
    tally = Tally()

    def why_not(one: FolderJob) -> str | None:
        return "purged before" if one.bucket is None else None

    def work(one: FolderJob, proceed: Callable[[int], None]) -> str | None:
        proceed(0)
        if not force and journal.record(one.directory).fetched_job != one.jobid:
            completed = one.state is not None and one.state.status == "completed"
            why = why_keep(store, str(one.bucket), one.directory, completed, proceed)
            if why is not None:
                return why
        purge(store, str(one.bucket))
        JobFolder(one.directory).forget_bucket(str(one.bucket))
        return None

    chosen = _choose(folders, tally, why_not, advance, force=force)
    for one, outcome in _until_away(chosen, work, tally):
        advance(1)
        if isinstance(outcome, LeruliError):
            tally.failed[one.directory] = str(outcome)
        elif outcome is not None:
            tally.skipped[one.directory] = outcome
        else:
            tally.done.append(one.directory)
    return tally


def _until_away(
    chosen: Iterator[FolderJob],
    work: Callable[[FolderJob, Callable[[int], None]], _Result],
    tally: Tally,
) -> Generator[tuple[FolderJob, _Result | LeruliError], None, None]:
    """Do `work` for the chosen folders, as `work_through`, until the storage stays away.

    Every folder would wait for it anew, for minutes. What was not tried is noted in the tally.
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
                tally.failed[untried.directory] = f"Not tried, as others failed: {outcome}"
            return


def _choose(
    folders: Sequence[FolderJob],
    tally: Tally,
    why_not: Callable[[FolderJob], str | None],
    advance: Callable[[int], None],
    *,
    force: bool = False,
) -> Iterator[FolderJob]:
    """Yield the folders to work on; the others are noted in the tally."""
    for one in folders:
        if force and one.bucket is not None:
            yield one
            continue
        why: str | None = None
        if one.problem is not None:
            tally.failed[one.directory] = one.problem
        elif one.state is None:
            why = NOT_SUBMITTED
        else:
            why = why_not(one) if one.state.is_final else one.state.status
            if why is None:
                yield one
                continue
        if why is not None:
            tally.skipped[one.directory] = why
        advance(1)


def _read(directory: str, journal: JournalView | None) -> FolderJob:
    try:
        return FolderJob(directory, *recall(directory, journal))
    except LeruliError as error:
        return FolderJob(directory, problem=str(error))


def _with_jobs(folders: list[FolderJob], find: Find) -> list[FolderJob]:
    """Return the folders, those with the jobs of their buckets that had a bucket and no job."""
    asked = {
        one.directory: one.bucket for one in folders if one.jobid is None and one.bucket is not None
    }
    try:
        jobs = dict(zip(asked, find(list(asked.values()))))
    except UnknownCallError as error:
        why = f"Its submission was interrupted, and whether it has a job cannot be told. {error}"
        return [replace(one, problem=why) if one.directory in asked else one for one in folders]
    return [replace(one, jobid=jobs.get(one.directory, one.jobid)) for one in folders]


def _with_state(one: FolderJob, state: JobState | LeruliError) -> FolderJob:
    if isinstance(state, LeruliError):
        return replace(one, problem=str(state))
    return replace(one, state=state)
