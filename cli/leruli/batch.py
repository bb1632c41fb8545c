"""Submitting many folders at once.

Threads pack and upload; as soon as 50 folders are up they are submitted in one call, while the
uploads go on. What fails for one folder is noted for that folder. What would fail for all of them
(the storage or the service is away, the secret is refused) ends the batch. How far it came stands
in the journal, so that it can break off at any moment; see `leruli.journal`.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING

from leruli.counting import counted
from leruli.errors import (
    AccessRefusedError,
    AlreadySubmittedError,
    EditedFolderError,
    LeruliError,
    RefusedError,
    ServiceError,
    StorageError,
)
from leruli.jobfolder import JobFolder
from leruli.leftovers import Leftovers
from leruli.recovery import recover
from leruli.standing import Standing, standings_of
from leruli.submitting import JobSpec, job_name, pack, prepare, upload
from leruli.workers import work_through

if TYPE_CHECKING:
    from leruli.api import Service
    from leruli.journal import Journal
    from leruli.storage import Store

#: Threads that pack and upload. More would only wait for Python's lock.
STAGERS = 8

# Held by the thread that packs. Python runs one thread at a time and changes over at every call of
# the system: several that pack at once take turns file by file, which costs as much as packing.
_PACKING = threading.Lock()

# Jobs in one bulk call.
_POST_SIZE = 50

#: Failures of the storage in a row after which the rest is not tried.
STORAGE_FAILURES = STAGERS


@dataclass(frozen=True)
class Case:
    """A folder and what to run in it."""

    directory: str
    spec: JobSpec
    with_results: bool = False  #: results of earlier jobs are sent, too


@dataclass
class BatchReport:
    """What became of each folder."""

    submitted: dict[str, str] = field(default_factory=dict)  #: folder: job id
    #: Those of them of which only the service knew, as its answer was lost.
    accepted_before: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)  #: submitted before
    failed: dict[str, str] = field(default_factory=dict)  #: folder: why, in a sentence
    copies: list[str] = field(default_factory=list)  #: of the failed: copies of other folders
    edited: list[str] = field(default_factory=list)  #: of the failed: edited since
    #: Of the submitted: what earlier jobs had left in the folder.
    leftovers: dict[str, Leftovers] = field(default_factory=dict)
    #: Of the failed: those that may go well the next time, with nothing changed in the folder.
    passing: list[str] = field(default_factory=list)
    total: int = 0
    seconds: float = 0.0

    def fail(self, directory: str, why: LeruliError) -> None:
        """Note that a folder was not submitted."""
        self.failed[directory] = str(why)
        if isinstance(why, (ServiceError, StorageError)):
            self.passing.append(directory)

    @property
    def left(self) -> int:
        """Folders that are neither submitted nor failed."""
        return self.total - len(self.submitted) - len(self.skipped) - len(self.failed)


def submit_batch(
    store: Store,
    service: Service,
    cases: Sequence[Case],
    advance: Callable[[int], None] = lambda _: None,
    journal: Journal | None = None,
    report: BatchReport | None = None,
    standings: Mapping[str, Standing | RefusedError] | None = None,
) -> BatchReport:
    """Submit all cases; `advance` is told how many more folders are dealt with.

    `standings` are those of the folders, if they are known already.

    `report` is filled as it goes, so that it can be told after Ctrl-C how far it came. Copies of
    other folders, and folders that were edited since their job was submitted, count as failed.
    """
    started = time.monotonic()
    report = BatchReport() if report is None else report
    report.total = len(cases) + len(report.failed)
    try:
        if standings is None:
            standings = standings_of(case.directory for case in cases)
        unsound = _note_unsound(standings, report)
        advance(len(unsound))
        left = [case for case in cases if case.directory not in unsound]
        if journal is not None:
            found = recover(journal, [case.directory for case in left], service.find_jobs)
            # What was edited before its job was known of is not what that job calculates.
            unsound = _note_unsound({name: standings[name] for name in found}, report)
            accepted = {name: job for name, job in found.items() if name not in unsound}
            report.submitted.update(accepted)
            report.accepted_before.extend(accepted)
            advance(len(found))
            left = [case for case in left if case.directory not in found]
        fatal = _submit_all(store, service, left, advance, journal, report)
        if fatal is not None:
            _note_untried(cases, report, fatal)
    finally:
        report.seconds = time.monotonic() - started
    return report


def _note_unsound(
    standings: Mapping[str, Standing | RefusedError], report: BatchReport
) -> Collection[str]:
    """Note the folders whose job is not that of the folder as it is; returns them.

    An edited folder without leruli.job was interrupted, and is submitted as it is.
    """
    unsound = []
    for name, standing in standings.items():
        if isinstance(standing, RefusedError):
            report.failed[name] = str(standing)
        elif standing.is_copy:
            report.copies.append(name)
            report.failed[name] = standing.sentence(name)
        elif standing.edited and JobFolder(name).job() is not None:
            report.edited.append(name)
            report.failed[name] = standing.sentence(name)
        else:
            continue
        unsound.append(name)
    return frozenset(unsound)


def _submit_all(
    store: Store,
    service: Service,
    cases: Sequence[Case],
    advance: Callable[[int], None],
    journal: Journal | None,
    report: BatchReport,
) -> LeruliError | None:
    """Submit until all are dealt with or something fails that meets all others too: that."""
    staged = work_through(cases, functools.partial(_stage, store, service), STAGERS)
    group: list[_Staged] = []
    storage_failures = 0
    fatal: LeruliError | None = None
    for case, outcome in staged:
        if isinstance(outcome, _Staged) and outcome.job is not None:
            storage_failures = 0
            report.accepted_before.append(case.directory)
            _accept([outcome], [outcome.job], report, journal)
            advance(1)
        elif isinstance(outcome, _Staged):
            storage_failures = 0
            group.append(outcome)
            if len(group) == _POST_SIZE:
                fatal = _post(service, group, report, journal)
                advance(len(group))
                group = []
        elif isinstance(outcome, AlreadySubmittedError):
            report.skipped.append(case.directory)
            advance(1)
        else:
            report.fail(case.directory, outcome)
            if isinstance(outcome, EditedFolderError):
                report.edited.append(case.directory)
            advance(1)
            if isinstance(outcome, StorageError):
                storage_failures += 1
                if storage_failures == STORAGE_FAILURES:
                    fatal = outcome
            elif isinstance(outcome, (ServiceError, AccessRefusedError)):
                fatal = outcome
        if fatal is not None:
            break
    staged.close()
    if group and not isinstance(fatal, (ServiceError, AccessRefusedError)):
        fatal = _post(service, group, report, journal) or fatal
    return fatal


@dataclass(frozen=True)
class _Staged:
    """A folder whose files are in its bucket, and its job if that was accepted already."""

    case: Case
    folder: JobFolder
    bucket: str
    lock: IO[bytes]
    job: str | None
    leftovers: Leftovers


def _stage(store: Store, service: Service, case: Case, advance: Callable[[int], None]) -> _Staged:
    """Pack and upload one folder."""
    case.spec.check()
    with _PACKING:
        prepared = prepare(case.directory, case.spec, with_results=case.with_results)
        packed = pack(prepared, advance)
    try:
        job = store.patience.through(lambda: upload(store, service, packed, advance), advance)
    except BaseException:
        packed.lock.close()
        raise
    return _Staged(
        case, packed.prepared.folder, packed.bucket, packed.lock, job, prepared.leftovers
    )


def _post(
    service: Service, group: list[_Staged], report: BatchReport, journal: Journal | None
) -> LeruliError | None:
    """Submit one group and note the outcome; returns what would meet every further job too."""
    if journal is not None:
        journal.claim((one.case.directory, one.bucket) for one in group)

    def progress() -> str:
        done = len(report.submitted) + len(report.skipped)
        return f"Submitted so far: {done} of {counted(report.total, 'folder')}."

    requests = [one.case.spec.request(one.bucket, job_name(one.case.directory)) for one in group]
    try:
        answers = service.submit_bulk(requests, progress)
    except LeruliError as error:
        for one in group:
            one.lock.close()
            report.fail(one.case.directory, error)
        return error if isinstance(error, (ServiceError, AccessRefusedError)) else None
    return _accept(group, answers, report, journal)


def _accept(
    group: list[_Staged],
    answers: Sequence[str | LeruliError],
    report: BatchReport,
    journal: Journal | None,
) -> LeruliError | None:
    """Note what the service answered for each; returns what would meet every further job too."""
    if journal is not None:
        # First, so that a kill in what follows leaves nothing unknown.
        journal.accept(
            (one.case.directory, one.bucket, answer)
            for one, answer in zip(group, answers)
            if isinstance(answer, str)
        )
    fatal = None
    for one, answer in zip(group, answers):
        directory = one.case.directory
        try:
            if isinstance(answer, LeruliError):
                raise answer
            one.folder.record_job(answer)
            report.submitted[directory] = answer
            if one.leftovers.is_known:
                report.leftovers[directory] = one.leftovers
        except LeruliError as error:
            report.fail(directory, error)
            if isinstance(error, AccessRefusedError):
                fatal = error
        finally:
            one.lock.close()
    return fatal


def _note_untried(cases: Sequence[Case], report: BatchReport, fatal: LeruliError) -> None:
    skipped = set(report.skipped)
    for case in cases:
        name = case.directory
        if name not in skipped and name not in report.submitted and name not in report.failed:
            report.failed[name] = f"Not tried, as others failed: {fatal}"
            report.passing.append(name)
