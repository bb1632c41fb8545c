"""Submitting many folders at once.

Threads pack and upload. As soon as 50 folders are uploaded, one call submits them while the uploads
continue. A failure of one folder is recorded for that folder. A failure that concerns all folders
(the storage or the service is away, the secret is refused) ends the batch. The journal records the
progress, so a batch may be interrupted at any moment; see `leruli.folder.journal`.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import IO, TYPE_CHECKING

from leruli.errors import (
    AccessRefusedError,
    AlreadySubmittedError,
    EditedFolderError,
    LeruliError,
    RefusedError,
    ServiceError,
    StorageError,
)
from leruli.folder.job_folder import JobFolder
from leruli.folder.leftovers import Leftovers
from leruli.folder.provenance import Provenance, provenances_of
from leruli.jobs.recover import recover
from leruli.jobs.submit import JobSpec, job_name, pack, prepare, upload
from leruli.jobs.workers import work_through
from leruli.wording import counted

if TYPE_CHECKING:
    from leruli.cancellation import CheckCancelled
    from leruli.folder.journal import Journal
    from leruli.service.queue_client import QueueClient
    from leruli.storage.store import Store

#: Threads that pack and upload. More would only wait for Python's global lock.
STAGERS = 8

# Held by the thread that packs. Python runs one thread at a time and switches at every system call.
# Several packing threads would switch file by file, which costs as much as packing.
_PACKING = threading.Lock()

# Jobs in one bulk call.
_POST_SIZE = 50

#: Failures of the storage in a row after which the other folders are not tried.
STORAGE_FAILURES = STAGERS


@dataclass(frozen=True)
class Case:
    """A folder and its spec."""

    directory: str
    spec: JobSpec
    with_results: bool = False  #: send results of earlier jobs too


@dataclass
class BatchReport:
    """The outcome of each folder."""

    submitted: dict[str, str] = field(default_factory=dict)  #: folder: job id
    #: Those of them that only the service knew, because its answer was lost.
    accepted_before: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)  #: submitted before
    failed: dict[str, str] = field(default_factory=dict)  #: folder: why, in a sentence
    copies: list[str] = field(default_factory=list)  #: of the failed: copies of other folders
    edited: list[str] = field(default_factory=list)  #: of the failed: edited after the submission
    #: Of the submitted: the leftovers of earlier jobs.
    leftovers: dict[str, Leftovers] = field(default_factory=dict)
    #: Of the failed: those that may succeed next time without a change in the folder.
    passing: list[str] = field(default_factory=list)
    batch: tuple[str, str] | None = None  #: id and name of the service's batch
    total: int = 0
    seconds: float = 0.0

    def fail(self, directory: str, why: LeruliError) -> None:
        """Record why a folder was not submitted."""
        self.failed[directory] = str(why)
        if isinstance(why, (ServiceError, StorageError)):
            self.passing.append(directory)

    @property
    def left(self) -> int:
        """Folders that are neither submitted nor failed."""
        return self.total - len(self.submitted) - len(self.skipped) - len(self.failed)


def submit_batch(
    store: Store,
    service: QueueClient,
    cases: Sequence[Case],
    advance: Callable[[int], None] = lambda _: None,
    journal: Journal | None = None,
    report: BatchReport | None = None,
    name: str | None = None,
    provenances: Mapping[str, Provenance | RefusedError] | None = None,
) -> BatchReport:
    """Submit all cases; `advance` gets the number of folders finished since the last call.

    `report` is filled step by step, so it shows the progress after Ctrl-C. Copied folders, and
    folders that were edited after their submission, count as failed. `provenances` are read
    from the folders unless the caller has them. `name` is that of the batch, which the journal
    remembers. Without a journal the jobs have no batch.
    """
    started = time.monotonic()
    report = BatchReport() if report is None else report
    report.total = len(cases) + len(report.failed)
    try:
        if provenances is None:
            provenances = provenances_of(case.directory for case in cases)
        unsound = _note_unsound(provenances, report)
        advance(len(unsound))
        left = [case for case in cases if case.directory not in unsound]
        if journal is not None:
            report.batch = join_batch(journal, name)
            found = recover(journal, [case.directory for case in left], service.find_jobs)
            # If the folder was edited before its job id arrived, the job has the older input.
            unsound = _note_unsound({name: provenances[name] for name in found}, report)
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


def join_batch(journal: Journal, name: str | None) -> tuple[str, str]:
    """Return id and name of the service's batch that the next jobs of a journal join."""
    return journal.join(name, job_name(str(journal.path.parent)))


def _note_unsound(
    provenances: Mapping[str, Provenance | RefusedError], report: BatchReport
) -> Collection[str]:
    """Record copied and edited folders as failed, and return them.

    An edited folder without leruli.job was interrupted. It is submitted as it is.
    """
    unsound = []
    for name, provenance in provenances.items():
        if isinstance(provenance, RefusedError):
            report.failed[name] = str(provenance)
        elif provenance.is_copy:
            report.copies.append(name)
            report.failed[name] = provenance.sentence(name)
        elif provenance.edited and JobFolder(name).job() is not None:
            report.edited.append(name)
            report.failed[name] = provenance.sentence(name)
        else:
            continue
        unsound.append(name)
    return frozenset(unsound)


def _submit_all(
    store: Store,
    service: QueueClient,
    cases: Sequence[Case],
    advance: Callable[[int], None],
    journal: Journal | None,
    report: BatchReport,
) -> LeruliError | None:
    """Submit all cases. Return the error that would fail every further case, None without one."""
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
        advance(len(group))
    return fatal


@dataclass(frozen=True)
class _Staged:
    """A folder whose files are in its bucket, with its job if that was already accepted."""

    case: Case
    folder: JobFolder
    bucket: str
    lock: IO[bytes]
    job: str | None
    leftovers: Leftovers


def _stage(
    store: Store, service: QueueClient, case: Case, check_cancelled: CheckCancelled
) -> _Staged:
    """Pack and upload one folder."""

    def advance(_: int) -> None:
        check_cancelled()

    case.spec.check()
    with _PACKING:
        prepared = prepare(case.directory, case.spec, with_results=case.with_results)
        packed = pack(prepared, advance)
    try:
        job = store.retry.run(lambda: upload(store, service, packed, advance), check_cancelled)
    except BaseException:
        packed.lock.close()
        raise
    return _Staged(
        case, packed.prepared.folder, packed.bucket, packed.lock, job, prepared.leftovers
    )


def _post(
    service: QueueClient, group: list[_Staged], report: BatchReport, journal: Journal | None
) -> LeruliError | None:
    """Submit one group of jobs. Return the error that would fail every further job."""
    if journal is not None:
        journal.claim((one.case.directory, one.bucket) for one in group)

    def progress() -> str:
        done = len(report.submitted) + len(report.skipped)
        return f"Submitted so far: {done} of {counted(report.total, 'folder')}."

    requests = [
        replace(one.case.spec.request(one.bucket, job_name(one.case.directory)), batch=report.batch)
        for one in group
    ]
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
    """Record the answers of the service. Return the error that would fail every further job."""
    if journal is not None:
        # The journal comes first. Then a kill after this line loses nothing.
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
            report.failed[name] = f"Not tried, because others failed: {fatal}"
            report.passing.append(name)
