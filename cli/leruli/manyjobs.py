"""The jobs of many folders: where they are, cancel them, fetch and purge what they left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

from leruli.api import BULK_LIMIT, JobState
from leruli.batch import STORAGE_FAILURES
from leruli.errors import (
    BucketMissingError,
    LeruliError,
    RefusedError,
    StorageAwayError,
    UnknownCallError,
)
from leruli.fetching import Fetched, Wanted, bring_input, fetch, select_results
from leruli.jobfolder import JobFolder
from leruli.local_files import LocalFiles
from leruli.purging import purge, why_keep
from leruli.recovery import Find, recall
from leruli.standing import Standing, standing_of, standings_of
from leruli.workers import work_through

if TYPE_CHECKING:
    from leruli.journal import Journal, JournalView
    from leruli.storage import Store

_Result = TypeVar("_Result")

#: Threads that fetch or purge.
WORKERS = 8

#: Said of a folder without a job.
NOT_SUBMITTED = "not submitted"

#: Said of a folder without leruli.bucket, when the service is too old to be asked for the bucket.
NO_BUCKET = "without leruli.bucket"

#: Said of a folder without leruli.bucket whose bucket is not in the storage.
NOT_IN_STORAGE = "purged, or in another storage"

#: Returns the bucket of a job.
Locate = Callable[[str], str]

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

    files: int = 0  #: results in the folders, downloaded now or there already
    total_bytes: int = 0  #: downloaded
    #: Folders that have their results, and what a person has to look at, in sentences.
    differing: dict[str, str] = field(default_factory=dict)
    #: How many of `done` are in which state.
    states: Counter[str] = field(default_factory=Counter)


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
    journal: Journal | None,
    locate: Locate,
    wanted: Wanted,
    advance: Callable[[int], None] = lambda _: None,
) -> FetchTally:
    """Fetch the results of all jobs that are over, but for those that were fetched before.

    What was fetched before stands in the journal, if there is one, and in the folder's record. A
    folder that holds another one's job is not fetched, and noted as failed.
    """
    tally = FetchTally()
    check_own = _ownership(folders)

    def why_not(one: FolderJob) -> str | None:
        standing = check_own(one)
        why = _why_not_over(one)
        if why is None and not wanted.again and _is_fetched(one, standing, journal):
            if standing.edited:
                tally.differing[one.directory] = standing.sentence(one.directory)
            return "fetched before"
        return why

    def work(one: FolderJob, proceed: Callable[[int], None]) -> Fetched | str:
        return store.patience.through(
            lambda: _fetch_one(store, one, locate, wanted, proceed), proceed
        )

    chosen = _choose(folders, tally, why_not, advance)
    for one, outcome in _until_away(chosen, work, tally):
        advance(1)
        if isinstance(outcome, LeruliError):
            tally.failed[one.directory] = str(outcome)
        elif isinstance(outcome, str):
            tally.skipped[one.directory] = outcome
        else:
            _note_fetched(tally, journal, one, outcome)
    return tally


def _is_fetched(one: FolderJob, standing: Standing, journal: Journal | None) -> bool:
    """Whether all results came: by the journal of the batch, or by the record of the folder.

    The record knows what came by another pattern, or by a command in the folder.
    """
    if journal is not None and journal.record(one.directory).fetched_job == one.jobid:
        return True
    record = standing.record
    return record is not None and record.bucket == one.bucket and record.is_fetched


def _fetch_one(
    store: Store,
    one: FolderJob,
    locate: Locate,
    wanted: Wanted,
    proceed: Callable[[int], None],
) -> Fetched | str:
    """Fetch the results of one folder; returns why there is nothing to fetch, in a few words."""
    try:
        bucket = one.bucket or locate(str(one.jobid))
        items = select_results(store, bucket, everything=wanted.everything)
    except UnknownCallError:
        return NO_BUCKET
    except BucketMissingError:
        if one.bucket is not None:
            raise
        return NOT_IN_STORAGE
    if not items and not wanted.with_input:
        return f"{one.state.status if one.state else 'over'}, without results"
    local = LocalFiles.of(one.directory, bucket, one.jobid, overwrite=wanted.overwrite)
    fetched = fetch(
        store, bucket, items, one.directory, proceed, threads=1, local=local, is_over=one.is_over
    )
    if wanted.with_input:
        fetched.input = bring_input(store, local, items, proceed)
    return fetched


def _note_fetched(
    tally: FetchTally, journal: Journal | None, one: FolderJob, fetched: Fetched
) -> None:
    tally.files += len(fetched.files)
    tally.total_bytes += fetched.total_bytes
    if fetched.all_refused:
        tally.failed[one.directory] = " ".join(
            f"{name} was not fetched: {why}" for name, why in fetched.all_refused.items()
        )
        return
    if journal is not None:
        journal.note_fetched(one.directory, str(one.jobid))
    differences = fetched.differences()
    standing = standing_of(one.directory)
    if standing.edited:
        differences.append(standing.sentence(one.directory))
    if differences:
        tally.differing[one.directory] = " ".join(differences)
    else:
        tally.done.append(one.directory)
        tally.states[one.state.status if one.state else ""] += 1


def purge_folders(
    store: Store,
    folders: Sequence[FolderJob],
    locate: Locate,
    *,
    force: bool = False,
    advance: Callable[[int], None] = lambda _: None,
) -> Tally:
    """Purge the buckets of all jobs that are over, as far as `leruli.purging.why_keep` lets them.

    With `force` all buckets are purged, whatever state their jobs are in, but for those of copied
    folders.
    """
    tally = Tally()
    check_own = _ownership(folders)

    def why_not(one: FolderJob) -> str | None:
        check_own(one)
        if force and (one.bucket or one.jobid):
            return None
        return _why_not_over(one)

    def work(one: FolderJob, proceed: Callable[[int], None]) -> str | None:
        proceed(0)
        try:
            bucket = one.bucket or locate(str(one.jobid))
            if not force:
                completed = one.state is not None and one.state.status == "completed"
                standing = standing_of(one.directory, proceed)
                why = why_keep(store, bucket, one.directory, standing, completed, proceed)
                if why is not None:
                    return why
            purge(store, bucket)
        except UnknownCallError:
            return NO_BUCKET
        except BucketMissingError:
            if one.bucket is not None:
                raise
            return NOT_IN_STORAGE
        JobFolder(one.directory).forget_bucket(bucket)
        return None

    chosen = _choose(folders, tally, why_not, advance)
    for one, outcome in _until_away(chosen, work, tally):
        advance(1)
        if isinstance(outcome, LeruliError):
            tally.failed[one.directory] = str(outcome)
        elif outcome is not None:
            tally.skipped[one.directory] = outcome
        else:
            tally.done.append(one.directory)
    return tally


def _ownership(folders: Sequence[FolderJob]) -> Callable[[FolderJob], Standing]:
    """Return what gives the standing of a folder, or raises RefusedError for a copied one."""
    standings = standings_of(one.directory for one in folders)

    def check(one: FolderJob) -> Standing:
        standing = standings[one.directory]
        if isinstance(standing, RefusedError):
            raise standing
        standing.check_own(one.directory)
        return standing

    return check


def _why_not_over(one: FolderJob) -> str | None:
    """Return in a few words why a job is not over; raises RefusedError if that is not known."""
    if one.problem is not None:
        raise RefusedError(one.problem)
    if one.state is None:
        return NOT_SUBMITTED
    return None if one.state.is_final else one.state.status


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
) -> Iterator[FolderJob]:
    """Yield the folders to work on; the others are noted in the tally.

    `why_not` returns why a folder is passed over, or raises LeruliError if that is a failure.
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
