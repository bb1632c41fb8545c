"""Fetching the results of many folders' jobs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from leruli.cancellation import Advance, CheckCancelled
from leruli.errors import LeruliError
from leruli.folder.local_files import LocalFiles
from leruli.folder.provenance import Provenance, provenance_of
from leruli.jobs.fetch import Wanted, fetch, select_results
from leruli.jobs.fetch_input import fetch_input
from leruli.jobs.many import (
    FolderJob,
    Locate,
    Tally,
    choose,
    or_why_missing,
    ownership,
    until_away,
    why_not_over,
)
from leruli.jobs.placing import Fetched

if TYPE_CHECKING:
    from leruli.folder.journal import Journal
    from leruli.storage.store import Store, StoredObject


@dataclass
class FetchTally(Tally):
    """The outcome of each folder, and the amount that was fetched."""

    files: int = 0  #: results in the folders, downloaded now or before
    total_bytes: int = 0  #: downloaded
    #: Folders with their results, and sentences about what a person has to check.
    differing: dict[str, str] = field(default_factory=dict)
    #: The number of `done` folders by state.
    states: Counter[str] = field(default_factory=Counter)


def fetch_folders(
    store: Store,
    folders: Sequence[FolderJob],
    journal: Journal | None,
    locate: Locate,
    wanted: Wanted,
    advance: Advance = lambda _: None,
) -> FetchTally:
    """Fetch the results of all jobs that are over and were not fetched before.

    The journal, if there is one, and the record of the folder say what was fetched before. A copied
    folder is not fetched and counts as failed.
    """
    tally = FetchTally()
    check_own = ownership(folders)

    def why_not(one: FolderJob) -> str | None:
        provenance = check_own(one)
        why = why_not_over(one)
        if why is None and not wanted.again and _is_fetched(one, provenance, journal):
            if provenance.edited:
                tally.differing[one.directory] = provenance.sentence(one.directory)
            return "fetched before"
        return why

    def work(one: FolderJob, check_cancelled: CheckCancelled) -> Fetched | str:
        return store.retry.run(
            lambda: _fetch_one(store, one, locate, wanted, check_cancelled), check_cancelled
        )

    chosen = choose(folders, tally, why_not, advance)
    for one, outcome in until_away(chosen, work, tally):
        advance(1)
        if isinstance(outcome, LeruliError):
            tally.failed[one.directory] = str(outcome)
        elif isinstance(outcome, str):
            tally.skipped[one.directory] = outcome
        else:
            _note_fetched(tally, journal, one, outcome)
    return tally


def _is_fetched(one: FolderJob, provenance: Provenance, journal: Journal | None) -> bool:
    """Whether the journal of the batch or the record of the folder says that it was fetched.

    The record also has what another pattern, or a command in the folder, fetched.
    """
    if journal is not None and journal.entry(one.directory).fetched_job == one.jobid:
        return True
    record = provenance.record
    return record is not None and record.bucket == one.bucket and record.is_fetched


def _fetch_one(
    store: Store,
    one: FolderJob,
    locate: Locate,
    wanted: Wanted,
    check_cancelled: CheckCancelled,
) -> Fetched | str:
    """Fetch the results of one folder, or return in a few words why there are none."""

    def select() -> tuple[str, list[StoredObject]]:
        bucket = one.bucket or locate(str(one.jobid))
        return bucket, select_results(store, bucket, everything=wanted.everything)

    selected = or_why_missing(one, select)
    if isinstance(selected, str):
        return selected
    bucket, items = selected
    if not items and not wanted.with_input:
        return f"{one.state.status if one.state else 'over'}, without results"

    def advance(_: int) -> None:
        check_cancelled()

    local = LocalFiles.of(one.directory, bucket, one.jobid, overwrite=wanted.overwrite)
    fetched = fetch(
        store, bucket, items, one.directory, advance, threads=1, local=local, is_over=one.is_over
    )
    if wanted.with_input:
        fetched.input = fetch_input(store, local, {item.name for item in items}, advance)
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
    provenance = provenance_of(one.directory)
    if provenance.edited:
        differences.append(provenance.sentence(one.directory))
    if differences:
        tally.differing[one.directory] = " ".join(differences)
    else:
        tally.done.append(one.directory)
        tally.states[one.state.status if one.state else ""] += 1
